#include "launcher/guard/guard_start.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "launcher/guard/cover.h"
#include "launcher/guard/guard_protocol.h"
#include "launcher/guard/process_tree.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr int kReadyTimeoutMilliseconds = 10'000;

// No signal handler of ours may run in a child: its memory is a copy, but its pipes are the agent's.
class AllSignalsBlocked {
 public:
  AllSignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~AllSignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

// OK once the guard serves, with its pid in `guard_pid`; else why not, with the stage in `stage`.
absl::Status WaitUntilReady(const std::string& path, int socket, pid_t* guard_pid, guard::Stage* stage) {
  pollfd wait = {.fd = socket, .events = POLLIN, .revents = 0};
  int ready;
  do {
    ready = poll(&wait, 1, kReadyTimeoutMilliseconds);
  } while (ready < 0 && errno == EINTR);
  if (ready <= 0) return absl::InternalError(absl::StrCat("the guard ", path, " did not answer within 10 s"));
  guard::Reply reply = {};
  UniqueFd pidfd;
  if (ReceiveReply(socket, &reply, &pidfd, 0) != sizeof reply) {
    return absl::InternalError(absl::StrCat("the guard ", path, " ended before it served; is it muster's own?"));
  }
  *stage = reply.stage;
  if (reply.type == guard::ReplyType::kStartFailed) return ErrnoToStatus(reply.value, absl::StrCat("start the guard ", path));
  if (reply.type != guard::ReplyType::kReady || reply.value != static_cast<int32_t>(guard::kProtocolVersion)) {
    return absl::InternalError(absl::StrCat("the guard ", path, " speaks version ", reply.value, ", this muster speaks ",
                                            guard::kProtocolVersion, "; install both from one build"));
  }
  *guard_pid = PidOf(pidfd.get());
  return absl::OkStatus();
}

// With 0, 1, 2 and the socket as 3, in a session of its own, for the terminal's signals are for the agent. 0, or the errno of a refusal.
// (A fork would copy page tables and then page after page of ours, and the child would wait its turn for a processor.)
int Spawn(const std::string& path, const std::vector<char*>& argv, int socket, pid_t* pid) {
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_t files;
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_init(&files);
  sigset_t all, none;
  memset(&all, 0xff, sizeof all);  // sigfillset leaves out the C library's own two, which posix_spawn then has ignored
  sigemptyset(&none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  int error = posix_spawn_file_actions_adddup2(&files, socket, guard::kSocketFd);
  if (error == 0) error = posix_spawn_file_actions_addclosefrom_np(&files, guard::kSocketFd + 1);
  if (error == 0) error = posix_spawn(pid, path.c_str(), &files, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  return error;
}

absl::StatusOr<StartedGuard> Start(const std::string& path, const std::string& session_folder, bool in_namespace) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return ErrnoToStatus(errno, "socketpair for the guard");
  StartedGuard started = {.socket = UniqueFd(ends[0]),
                          .cover = in_namespace ? TreeCover::kPidNamespace : TreeCover::kSubreaper};
  const UniqueFd guard_end(ends[1]);
  std::vector<std::string> words = {"muster-guard"};
  if (in_namespace) words.push_back(guard::kNamespaceWord);
  if (!session_folder.empty()) words.push_back(session_folder);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  if (const int error = Spawn(path, argv, guard_end.get(), &started.keeper); error != 0) {
    return ErrnoToStatus(error, absl::StrCat("start the guard ", path));
  }
  return started;
}

void EndKeeper(StartedGuard* started) {
  if (started->keeper <= 0) return;
  kill(started->keeper, SIGKILL);
  while (waitpid(started->keeper, nullptr, 0) < 0 && errno == EINTR) {
  }
  started->keeper = -1;
}

absl::Status Await(const std::string& path, StartedGuard* started, bool* namespace_refused) {
  started->keeper_pidfd.Reset(static_cast<int>(syscall(SYS_pidfd_open, started->keeper, 0)));
  absl::Status status = started->keeper_pidfd.valid() ? absl::OkStatus() : ErrnoToStatus(errno, "pidfd_open of the guard");
  guard::Stage stage = guard::Stage::kNone;
  if (status.ok()) status = WaitUntilReady(path, started->socket.get(), &started->guard, &stage);
  if (status.ok()) {
    fcntl(started->socket.get(), F_SETFL, O_NONBLOCK);
    return status;
  }
  *namespace_refused = stage == guard::Stage::kNamespace;
  EndKeeper(started);
  return status;
}

}  // namespace

ssize_t ReceiveReply(int socket, guard::Reply* reply, UniqueFd* descriptor, int flags) {
  iovec data = {reply, sizeof *reply};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t bytes = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | flags);
  const cmsghdr* header = bytes > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
  if (header != nullptr && header->cmsg_type == SCM_RIGHTS) {
    int received;
    memcpy(&received, CMSG_DATA(header), sizeof received);
    descriptor->Reset(received);
  }
  return bytes;
}

// Source: proc(5), fdinfo of a pidfd.
// fdinfo).
pid_t PidOf(int pidfd) {
  const UniqueFd file(open(absl::StrCat("/proc/self/fdinfo/", pidfd).c_str(), O_RDONLY | O_CLOEXEC));
  char text[512] = {};
  if (!file || read(file.get(), text, sizeof text - 1) <= 0) return -1;
  const char* line = strstr(text, "Pid:");
  int pid = -1;
  return line != nullptr && sscanf(line, "Pid: %d", &pid) == 1 ? pid : -1;
}

absl::StatusOr<std::unique_ptr<BegunGuard::Impl>> BeginGuard(const std::string& guard_path, const std::string& session_folder) {
  auto begun = std::make_unique<BegunGuard::Impl>();
  begun->path = guard_path;
  begun->session_folder = session_folder;
  begun->spared = guard::Children();
  if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return ErrnoToStatus(errno, "become a subreaper");
  MUSTER_ASSIGN_OR_RETURN(begun->started, Start(guard_path, session_folder, true));
  return begun;
}

absl::Status AwaitGuard(BegunGuard::Impl* begun) {
  bool namespace_refused = false;
  const absl::Status first = Await(begun->path, &begun->started, &namespace_refused);
  if (!namespace_refused) return first;
  MUSTER_ASSIGN_OR_RETURN(begun->started, Start(begun->path, begun->session_folder, false));
  return Await(begun->path, &begun->started, &namespace_refused);
}

BegunGuard::BegunGuard(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BegunGuard::BegunGuard(BegunGuard&&) noexcept = default;
BegunGuard& BegunGuard::operator=(BegunGuard&& other) noexcept {
  std::swap(impl_, other.impl_);
  return *this;
}

// With its socket closed the guard ends, whatever it has got to, and its keeper with it.
BegunGuard::~BegunGuard() {
  if (impl_ == nullptr || impl_->started.keeper <= 0) return;
  impl_->started.socket.Reset();
  const UniqueFd keeper(static_cast<int>(syscall(SYS_pidfd_open, impl_->started.keeper, 0)));
  pollfd ended = {.fd = keeper.get(), .events = POLLIN, .revents = 0};
  while (poll(&ended, 1, kReadyTimeoutMilliseconds) < 0 && errno == EINTR) {
  }
  EndKeeper(&impl_->started);
}

CoverReport ProbeTreeCover() {
  const auto refused = [](int error) {
    const absl::Status status = ErrnoToStatus(error, "a PID namespace with its own /proc is refused here");
    return CoverReport{TreeCover::kSubreaper,
                       absl::StrCat(status.message(),
                                    "; if agent, guard and the guard's keeper die within 50 ms of each other, "
                                    "descendants that left their worker by setsid live on; "
                                    "CAP_SYS_ADMIN (root, or a privileged container) gives the full cover")};
  };
  pid_t pid;
  {
    const AllSignalsBlocked blocked;
    pid = guard::ForkIntoNamespace();
    if (pid == 0) _exit(guard::MountNamespaceProc());
  }
  if (pid < 0) return refused(errno);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status)) return refused(ECANCELED);
  if (WEXITSTATUS(status) != 0) return refused(WEXITSTATUS(status));
  return {TreeCover::kPidNamespace,
          "guard and workers get a PID namespace, which the kernel ends as a whole whoever dies first"};
}

}  // namespace muster
