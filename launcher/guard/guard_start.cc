#include "launcher/guard/guard_start.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <initializer_list>
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

// In the child, where other threads' locks may be held for ever: system calls only. Leaves open the descriptors 0, 1, 2, and
// `kept` as 3 and following. Returns if there is no such program.
void ExecWith(const char* path, char* const* argv, std::initializer_list<int> kept) {
  setsid();  // before signals are let in: the terminal's are for the agent
  for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  constexpr int kFirst = 3, kAbove = 16;
  int copies[kAbove - kFirst], count = 0;
  for (const int fd : kept) copies[count++] = fcntl(fd, F_DUPFD, kAbove);  // one may have another's place
  for (int i = 0; i < count; ++i) dup2(copies[i], kFirst + i);
  syscall(SYS_close_range, static_cast<unsigned>(kFirst + count), ~0u, 0u);
  execv(path, argv);
}

[[noreturn]] void ExecGuard(const char* path, char* const* argv, int socket, int alive) {
  if (alive >= 0) {
    ExecWith(path, argv, {socket, alive});
  } else {
    ExecWith(path, argv, {socket});
  }
  const guard::Reply failed = {guard::ReplyType::kStartFailed, 0, errno, guard::Stage::kExecve};
  send(guard::kSocketFd, &failed, sizeof failed, MSG_NOSIGNAL);
  _exit(127);
}

std::vector<char*> Pointers(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Starts the janitor and returns the write end that agent and guard hold.
absl::StatusOr<UniqueFd> StartJanitor(const std::string& path, const std::string& session_folder) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoToStatus(errno, "pipe for the guard's janitor");
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  std::vector<std::string> words = {"muster-janitor", guard::kJanitorWord, session_folder};
  const std::vector<char*> argv = Pointers(words);
  const AllSignalsBlocked blocked;
  const pid_t pid = fork();
  if (pid == 0) {
    ExecWith(path.c_str(), argv.data(), {read_end.get()});
    _exit(127);  // the guard's own start will say why
  }
  if (pid < 0) return ErrnoToStatus(errno, "fork the guard's janitor");
  return write_end;
}

// OK once the guard serves; else why not, the stage in `stage`.
absl::Status WaitUntilReady(const std::string& path, int socket, guard::Stage* stage) {
  *stage = guard::Stage::kNone;
  pollfd wait = {.fd = socket, .events = POLLIN, .revents = 0};
  int ready;
  do {
    ready = poll(&wait, 1, kReadyTimeoutMilliseconds);
  } while (ready < 0 && errno == EINTR);
  if (ready <= 0) return absl::InternalError(absl::StrCat("the guard ", path, " did not answer within 10 s"));
  guard::Reply reply = {};
  if (recv(socket, &reply, sizeof reply, 0) != sizeof reply) {
    return absl::InternalError(absl::StrCat("the guard ", path, " ended before it served; is it muster's own?"));
  }
  *stage = reply.stage;
  if (reply.type == guard::ReplyType::kStartFailed && reply.stage == guard::Stage::kExecve) {
    return ErrnoToStatus(reply.value, absl::StrCat("start the guard ", path));
  }
  if (reply.type == guard::ReplyType::kStartFailed) return ErrnoToStatus(reply.value, "mount /proc in the guard's namespace");
  if (reply.type != guard::ReplyType::kReady || reply.value != static_cast<int32_t>(guard::kProtocolVersion)) {
    return absl::InternalError(absl::StrCat("the guard ", path, " speaks version ", reply.value, ", this muster speaks ",
                                            guard::kProtocolVersion, "; install both from one build"));
  }
  return absl::OkStatus();
}

absl::StatusOr<StartedGuard> TryStart(const std::string& path, const std::string& session_folder, int alive, bool in_namespace,
                                      bool* namespace_refused) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return ErrnoToStatus(errno, "socketpair for the guard");
  StartedGuard started = {.socket = UniqueFd(ends[0]),
                          .cover = in_namespace ? TreeCover::kPidNamespace : TreeCover::kSubreaper};
  UniqueFd guard_end(ends[1]);
  std::vector<std::string> words = {"muster-guard"};
  if (in_namespace) words.push_back(guard::kNamespaceWord);
  if (!session_folder.empty()) words.push_back(session_folder);
  const std::vector<char*> argv = Pointers(words);

  const AllSignalsBlocked blocked;
  started.pid = in_namespace ? guard::ForkIntoNamespace() : fork();
  if (started.pid == 0) ExecGuard(path.c_str(), argv.data(), guard_end.get(), alive);
  *namespace_refused = in_namespace && started.pid < 0;
  if (started.pid < 0) return ErrnoToStatus(errno, "fork the guard");
  guard_end.Reset();
  started.pidfd.Reset(static_cast<int>(syscall(SYS_pidfd_open, started.pid, 0)));
  absl::Status status = started.pidfd.valid() ? absl::OkStatus() : ErrnoToStatus(errno, "pidfd_open of the guard");
  guard::Stage stage = guard::Stage::kNone;
  if (status.ok()) status = WaitUntilReady(path, started.socket.get(), &stage);
  if (status.ok()) {
    fcntl(started.socket.get(), F_SETFL, O_NONBLOCK);
    return started;
  }
  *namespace_refused = stage == guard::Stage::kMount;
  kill(started.pid, SIGKILL);
  waitpid(started.pid, nullptr, 0);
  return status;
}

}  // namespace

absl::StatusOr<StartedGuard> StartGuard(const std::string& guard_path, const std::string& session_folder) {
  if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return ErrnoToStatus(errno, "become a subreaper");
  UniqueFd alive;
  if (!session_folder.empty()) {
    MUSTER_ASSIGN_OR_RETURN(alive, StartJanitor(guard_path, session_folder));
  }
  bool namespace_refused = false;
  absl::StatusOr<StartedGuard> started = TryStart(guard_path, session_folder, alive.get(), true, &namespace_refused);
  if (namespace_refused) started = TryStart(guard_path, session_folder, alive.get(), false, &namespace_refused);
  if (started.ok()) started->alive = std::move(alive);
  return started;
}

CoverReport ProbeTreeCover() {
  const auto refused = [](int error) {
    const absl::Status status = ErrnoToStatus(error, "a PID namespace with its own /proc is refused here");
    return CoverReport{
        TreeCover::kSubreaper,
        absl::StrCat(status.message(),
                     "; descendants of a worker that left it by setsid are ended only if guard or agent outlives the "
                     "other by 50 ms; CAP_SYS_ADMIN (root, or a privileged container) gives the full cover")};
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
