// muster-guard: spawns an agent's workers and ends them, with every descendant, when the agent's socket closes.
//
// One thread, libc only, nothing that could fail at a bad moment. Started by GuardClient; guard_protocol.h says how.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

#include "launcher/guard/guard_protocol.h"
#include "launcher/guard/process_tree.h"
#include "launcher/guard/worker_start.h"
#include "runtime/base/fd.h"

namespace muster::guard {
namespace {

class Guard {
 public:
  Guard(int socket, bool namespace_init, UniqueFd children)
      : socket_(socket), namespace_init_(namespace_init), children_(std::move(children)) {
    // The guard itself holds some descriptors for each worker that starts; workers keep the limit that it was started with.
    getrlimit(RLIMIT_NOFILE, &open_files_);
    const rlimit all = {open_files_.rlim_max, open_files_.rlim_max};
    setrlimit(RLIMIT_NOFILE, &all);
  }

  // Serves until the agent's end of the socket is closed, then ends the tree.
  void Run() {
    while (WaitAndServe()) {
    }
    EndTree();
  }

  void Send(ReplyType type, uint32_t slot, int value, Stage stage = Stage::kNone, int descriptor = -1) {
    Reply reply = {type, slot, value, stage};
    iovec data = {&reply, sizeof reply};
    msghdr message = {};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    if (descriptor >= 0) {
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int));
      memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    }
    // Blocks while the agent is behind. An error means that it is gone, which the next poll will tell.
    while (sendmsg(socket_, &message, MSG_NOSIGNAL) < 0 && errno == EINTR) {
    }
  }

 private:
  struct Worker {
    uint32_t slot;
    StartedWorker process;  // error_pipe is open until exec has succeeded or failed
  };

  bool WaitAndServe() {
    std::vector<pollfd> waits = {{socket_, POLLIN, 0}, {children_.get(), POLLIN, 0}};
    std::vector<pid_t> starting;
    for (const auto& [pid, worker] : workers_) {
      if (!worker.process.error_pipe) continue;
      waits.push_back({worker.process.error_pipe.get(), POLLIN, 0});
      starting.push_back(pid);
    }
    if (poll(waits.data(), waits.size(), -1) < 0) return errno == EINTR;
    for (size_t i = 0; i < starting.size(); ++i) {
      if (waits[i + 2].revents != 0) FinishStart(starting[i]);
    }
    if (waits[1].revents != 0) ReapEnded();
    return waits[0].revents == 0 || ServeRequest();
  }

  // False when the agent is gone.
  bool ServeRequest() {
    Request request = {};
    std::vector<UniqueFd> descriptors;
    const ssize_t bytes = Receive(&request, &descriptors);
    if (bytes < 0 && (errno == EINTR || errno == EAGAIN)) return true;
    if (bytes != sizeof request) return false;
    switch (request.type) {
      case RequestType::kSpawn:
        Spawn(request, descriptors);
        return true;
      case RequestType::kSignal:
        Signal(request.slot, request.signal);
        return true;
      case RequestType::kEndTree:
        EndTree();
        Send(ReplyType::kTreeEnded, 0, 0);
        return true;
    }
    return false;
  }

  ssize_t Receive(Request* request, std::vector<UniqueFd>* descriptors) {
    iovec data = {request, sizeof *request};
    alignas(cmsghdr) char control[CMSG_SPACE(kSpawnDescriptors * sizeof(int))];
    msghdr message = {};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t bytes = recvmsg(socket_, &message, MSG_CMSG_CLOEXEC);
    if (bytes < 0) return bytes;
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
      for (size_t i = 0; i < (header->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
        int descriptor;
        memcpy(&descriptor, CMSG_DATA(header) + i * sizeof(int), sizeof descriptor);
        descriptors->emplace_back(descriptor);
      }
    }
    return bytes;
  }

  void Spawn(const Request& request, const std::vector<UniqueFd>& descriptors) {
    Worker worker = {request.slot, {}};
    const StartError error = StartWorker(request, descriptors, open_files_, &worker.process);
    if (error.stage != Stage::kNone) {
      Send(ReplyType::kSpawnFailed, request.slot, error.error, error.stage);
      return;
    }
    const pid_t pid = worker.process.pid;
    workers_.insert_or_assign(pid, std::move(worker));
  }

  // The error pipe is readable: exec has succeeded (its end) or failed.
  void FinishStart(pid_t pid) {
    const auto found = workers_.find(pid);
    if (found == workers_.end()) return;
    Worker& worker = found->second;
    StartError error;
    const ssize_t bytes = read(worker.process.error_pipe.get(), &error, sizeof error);
    worker.process.error_pipe.Reset();
    if (bytes == sizeof error) {
      Send(ReplyType::kSpawnFailed, worker.slot, error.error, error.stage);
      workers_.erase(found);  // reaped as a nameless child
      return;
    }
    Send(ReplyType::kSpawned, worker.slot, 0, Stage::kNone, worker.process.pidfd.get());
    worker.process.pidfd.Reset();
  }

  void ReapEnded() {
    signalfd_siginfo pending;
    while (read(children_.get(), &pending, sizeof pending) > 0) {
    }
    int status = 0;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) Ended(pid, status);
  }

  // A child was reaped: a worker, or a descendant that had lost its parent.
  void Ended(pid_t pid, int status) {
    auto found = workers_.find(pid);
    if (found == workers_.end()) return;
    if (found->second.process.error_pipe) {
      FinishStart(pid);
      found = workers_.find(pid);
      if (found == workers_.end()) return;
    }
    Send(ReplyType::kEnded, found->second.slot, status);
    workers_.erase(found);
  }

  void Signal(uint32_t slot, int number) {
    for (const auto& [pid, worker] : workers_) {
      // Not yet reaped, so neither the pid nor its group can be someone else's. No group yet: the child has only just been
      // forked.
      if (worker.slot == slot && kill(-pid, number) != 0) kill(pid, number);
    }
  }

  void EndTree() {
    const auto reaped = [this](pid_t pid, int status) { Ended(pid, status); };
    if (namespace_init_) {
      EndNamespace(reaped);
      return;
    }
    // Most of the tree in one stroke each: a group is signalled under one lock, so that no fork slips through.
    for (const auto& [pid, worker] : workers_) kill(-pid, SIGKILL);
    EndDescendants({}, -1, reaped);
  }

  const int socket_;
  const bool namespace_init_;
  const UniqueFd children_;  // signalfd for SIGCHLD
  rlimit open_files_ = {};
  std::map<pid_t, Worker> workers_;
};

// stdin and stdout are none of the guard's; stderr stays, for a message before an abort.
void DetachFromTerminal() {
  setsid();
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return;
  dup2(null, 0);
  dup2(null, 1);
  if (null > 1) close(null);
}

// The end of the pipe means that agent and guard are gone. If one of them could still remove the folder, it is gone as well.
int RunJanitor(const char* session_folder) {
  prctl(PR_SET_NAME, "muster-janitor");
  DetachFromTerminal();
  char byte;
  ssize_t bytes;
  do {
    bytes = read(kJanitorFd, &byte, 1);
  } while (bytes > 0 || (bytes < 0 && errno == EINTR));
  if (bytes == 0) RemoveFolder(session_folder);
  return 0;
}

int Main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], kJanitorWord) == 0) return RunJanitor(argv[2]);
  const bool namespace_init = argc > 1 && strcmp(argv[1], kNamespaceWord) == 0;
  if (namespace_init) --argc, ++argv;
  if (argc > 2 || fcntl(kSocketFd, F_SETFD, FD_CLOEXEC) != 0) {
    fprintf(stderr, "muster-guard is started by muster; it is of no use by itself\n");
    return 64;
  }
  const char* session_folder = argc == 2 ? argv[1] : nullptr;
  if (session_folder != nullptr) fcntl(kAliveFd, F_SETFD, FD_CLOEXEC);
  DetachFromTerminal();
  // If somebody has stopped the guard, its agent's death wakes it, and it finds the socket closed.
  prctl(PR_SET_PDEATHSIG, SIGCONT);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  prctl(PR_SET_NAME, "muster-guard");
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, nullptr);
  Guard guard(kSocketFd, namespace_init, UniqueFd(signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK)));
  if (const int error = namespace_init ? MountNamespaceProc() : 0; error != 0) {
    guard.Send(ReplyType::kStartFailed, 0, error, Stage::kMount);
    return 1;
  }
  guard.Send(ReplyType::kReady, 0, kProtocolVersion);
  guard.Run();
  if (session_folder != nullptr) RemoveFolder(session_folder);
  return 0;
}

}  // namespace
}  // namespace muster::guard

int main(int argc, char** argv) { return muster::guard::Main(argc, argv); }
