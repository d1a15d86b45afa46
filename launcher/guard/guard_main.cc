// muster-guard: spawns an agent's workers and ends them, with every descendant, when the agent's socket closes.
//
// One thread, libc only, nothing that could fail at a bad moment. Started by GuardClient; guard_protocol.h says how, and why it
// is two processes.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <map>
#include <utility>

#include "launcher/guard/guard_protocol.h"
#include "launcher/guard/process_tree.h"
#include "launcher/guard/shared_memory.h"
#include "launcher/guard/worker_start.h"
#include "runtime/base/fd.h"

namespace muster::guard {
namespace {

constexpr int kNotStarted = 1;  // exit status after kStartFailed
// Beyond so many workers between fork and exec, requests wait in the socket: each of these workers holds two descriptors here.
constexpr size_t kStartingMax = 64;

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
    if (starting.size() >= kStartingMax) waits[0].events = 0;
    if (poll(waits.data(), waits.size(), -1) < 0) return errno == EINTR;
    if ((waits[0].revents & POLLHUP) != 0) return false;  // what the agent asked for last no longer matters
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

void Block(std::initializer_list<int> signals, sigset_t* set) {
  sigemptyset(set);
  for (const int number : signals) sigaddset(set, number);
  sigprocmask(SIG_SETMASK, set, nullptr);
}

// What keeper and guard both need: to get the orphans below them, and to be woken if somebody has stopped them when the parent
// dies.
void BecomeSubreaper() {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  prctl(PR_SET_PDEATHSIG, SIGCONT);
}

// What a terminal or a batch system sends to all processes it finds is for the agent, which ends or signals the workers in order.
// Workers start with all signals as they are by default.
void IgnoreWhatIsForTheAgent() {
  for (const int number : kSignalsForTheAgent) signal(number, SIG_IGN);
}

int RunGuard(bool in_namespace, const char* session_folder) {
  setsid();
  BecomeSubreaper();
  sigset_t child;
  Block({SIGCHLD}, &child);
  Guard guard(kSocketFd, in_namespace, UniqueFd(signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK)));
  if (const int error = in_namespace ? MountNamespaceProc() : 0; error != 0) {
    guard.Send(ReplyType::kStartFailed, 0, error, Stage::kNamespace);
    return kNotStarted;
  }
  UniqueFd self(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  guard.Send(ReplyType::kReady, 0, kProtocolVersion, Stage::kNone, self.get());
  self.Reset();
  guard.Run();
  if (session_folder != nullptr) {
    RemoveFolder(SharedMemoryFolder(session_folder).c_str());
    RemoveFolder(session_folder);  // the last: who comes after a kill finds the other by it
  }
  return 0;
}

// Waits for the guard to end, and ends what it left.
void RunKeeper(pid_t guard, const sigset_t& signals, const char* session_folder) {
  const int64_t began_ns = FileTimeNow();
  int status = 0;
  while (true) {
    const pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid == guard) break;
    if (pid > 0) continue;
    // The agent's death: the guard has lost its socket, and if it is stopped it must run to see that.
    if (sigwaitinfo(&signals, nullptr) == SIGCONT) kill(guard, SIGCONT);
  }
  EndDescendants({}, -1, nullptr);
  const bool not_started = WIFEXITED(status) && WEXITSTATUS(status) == kNotStarted;
  if (not_started || session_folder == nullptr) return;
  RemoveSharedMemory(session_folder, began_ns);
  RemoveFolder(session_folder);
}

int Main(int argc, char** argv) {
  const bool in_namespace = argc > 1 && strcmp(argv[1], kNamespaceWord) == 0;
  if (in_namespace) --argc, ++argv;
  if (argc > 2 || fcntl(kSocketFd, F_SETFD, FD_CLOEXEC) != 0) {
    fprintf(stderr, "muster-guard is started by muster; it is of no use by itself\n");
    return 64;
  }
  const char* session_folder = argc == 2 ? argv[1] : nullptr;
  DetachFromTerminal();
  IgnoreWhatIsForTheAgent();
  BecomeSubreaper();
  sigset_t signals;
  Block({SIGCHLD, SIGCONT}, &signals);
  const pid_t guard = in_namespace ? ForkIntoNamespace() : fork();
  if (guard == 0) return RunGuard(in_namespace, session_folder);
  if (guard < 0) {
    const Reply failed = {ReplyType::kStartFailed, 0, errno, in_namespace ? Stage::kNamespace : Stage::kFork};
    send(kSocketFd, &failed, sizeof failed, MSG_NOSIGNAL);
    return kNotStarted;
  }
  close(kSocketFd);
  RunKeeper(guard, signals, session_folder);
  return 0;
}

}  // namespace
}  // namespace muster::guard

int main(int argc, char** argv) { return muster::guard::Main(argc, argv); }
