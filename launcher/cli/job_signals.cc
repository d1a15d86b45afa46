#include "launcher/cli/job_signals.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <utility>

#include "launcher/process/signal_sender.h"
#include "runtime/base/clock.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

bool IsIgnored(int signal) {
  struct sigaction action;
  return ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

constexpr int64_t kVerdictBeingWrittenNs = 2'000'000'000;
int64_t job_over_ns = 0;

// The job has ended, and its verdict and report are being written: one Ctrl-C too many must not cost them. What cannot be written
// (a hung disk, a pipe that nobody reads) can still be interrupted.
void InterruptOnlyWhatHangs(int signal) {
  if (MonotonicNanoseconds() - job_over_ns < kVerdictBeingWrittenNs) return;
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

}  // namespace

absl::StatusOr<std::unique_ptr<JobSignals>> JobSignals::Take(EventLoop* loop, std::function<void(int signal, const std::string& by)> taken) {
  std::unique_ptr<JobSignals> job_signals(new JobSignals(loop));
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGUSR1, SIGUSR2}) {
    if (!IsIgnored(signal)) sigaddset(&signals, signal);
  }
  sigaddset(&signals, SIGCONT);
  sigaddset(&signals, SIGWINCH);
  ::sigprocmask(SIG_BLOCK, &signals, &job_signals->old_mask_);
  const int fd = ::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  if (fd < 0) return ErrnoToStatus(errno, "signalfd");
  job_signals->signals_.Reset(fd);
  MUSTER_RETURN_IF_ERROR(loop->Add(fd, EPOLLIN, [fd, taken = std::move(taken)](uint32_t) {
    signalfd_siginfo info;
    while (::read(fd, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      taken(static_cast<int>(info.ssi_signo), SenderOf(info));
    }
  }));
  return job_signals;
}

JobSignals::~JobSignals() {
  if (signals_) loop_->Remove(signals_.get());
  job_over_ns = MonotonicNanoseconds();
  struct sigaction action = {};
  action.sa_handler = InterruptOnlyWhatHangs;
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2}) {
    if (!IsIgnored(signal)) ::sigaction(signal, &action, nullptr);
  }
  ::sigprocmask(SIG_SETMASK, &old_mask_, nullptr);
}

void LeaveLineOfCtrlC() {
  if (::isatty(STDIN_FILENO) != 1 || ::isatty(STDERR_FILENO) != 1) return;
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, "\n", 1);
}

}  // namespace muster
