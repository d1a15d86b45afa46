#include "launcher/starter/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

std::vector<pid_t> ChildrenOf(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/task/", pid, "/children"));
  std::vector<pid_t> children;
  for (pid_t child; file >> child;) children.push_back(child);
  return children;
}

absl::StatusOr<pid_t> Spawn(const ChildOptions& options) {
  std::vector<std::string> words = options.words;
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  // dup2 onto a low number must not hit a source that is still needed.
  std::vector<UniqueFd> sources;
  int highest = STDERR_FILENO;
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  bool has_stdin = false;
  for (const auto& [ours, theirs] : options.descriptors) {
    sources.emplace_back(::fcntl(ours, F_DUPFD_CLOEXEC, 20));
    if (!sources.back()) {
      const absl::Status status = ErrnoToStatus(errno, absl::StrCat("a descriptor for ", options.program));
      ::posix_spawn_file_actions_destroy(&actions);
      return status;
    }
    ::posix_spawn_file_actions_adddup2(&actions, sources.back().get(), theirs);
    has_stdin = has_stdin || theirs == STDIN_FILENO;
    highest = std::max(highest, theirs);
  }
  if (!has_stdin) ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addclosefrom_np(&actions, highest + 1);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, options.program.c_str(), &actions, &attributes, argv.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return ErrnoToStatus(error, absl::StrCat("start ", options.program));
  return pid;
}

}  // namespace

std::string HowItEnded(int status) {
  if (!WIFSIGNALED(status)) return absl::StrCat("exited with ", WEXITSTATUS(status));
  const char* name = ::sigabbrev_np(WTERMSIG(status));
  return name != nullptr ? absl::StrCat("killed by SIG", name) : absl::StrCat("killed by signal ", WTERMSIG(status));
}

void KillAgentTree(pid_t agent) {
  std::vector<pid_t> family = ChildrenOf(agent);
  for (size_t i = 0, keepers = family.size(); i < keepers; ++i) {
    for (const pid_t guard : ChildrenOf(family[i])) family.push_back(guard);
  }
  ::kill(agent, SIGKILL);
  for (const pid_t one : family) ::kill(one, SIGCONT);
}

absl::StatusOr<std::unique_ptr<Child>> Child::Start(EventLoop* loop, const ChildOptions& options,
                                                    std::function<void(int wait_status)> ended) {
  MUSTER_ASSIGN_OR_RETURN(const pid_t pid, Spawn(options));
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  absl::Status watched = pidfd ? absl::OkStatus() : ErrnoToStatus(errno, absl::StrCat("watch ", options.program));
  std::unique_ptr<Child> child(new Child(loop, pid, std::move(pidfd)));
  if (watched.ok()) {
    watched = loop->Add(child->pidfd_.get(), EPOLLIN, [child = child.get(), ended = std::move(ended)](uint32_t) {
      int status = 0;
      ::waitpid(child->pid_, &status, 0);
      const auto call = ended;  // Forget takes this function away
      child->Forget();
      call(status);
    });
  }
  if (!watched.ok()) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    child->pidfd_.Reset();
    return watched;
  }
  return child;
}

Child::~Child() {
  if (!pidfd_) return;
  KillAgentTree(pid_);
  ::waitpid(pid_, nullptr, 0);
  Forget();
}

void Child::Forget() {
  loop_->Remove(pidfd_.get());
  pidfd_.Reset();
}

bool Child::AwaitEnd(absl::Duration at_most) {
  if (!pidfd_) return true;
  pollfd ended = {pidfd_.get(), POLLIN, 0};
  int ready;
  do {
    ready = ::poll(&ended, 1, static_cast<int>(std::max<int64_t>(0, absl::ToInt64Milliseconds(at_most))));
  } while (ready < 0 && errno == EINTR);
  if (ready <= 0) return false;
  ::waitpid(pid_, nullptr, 0);
  Forget();
  return true;
}

}  // namespace muster
