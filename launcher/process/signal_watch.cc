#include "launcher/process/signal_watch.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <utility>

#include "launcher/process/signal_sender.h"
#include "runtime/base/status.h"

namespace muster {

absl::StatusOr<UniqueFd> WatchEndingSignals(EventLoop* loop, std::function<void(int signal, const std::string& by)> on_signal) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2}) sigaddset(&signals, signal);
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  UniqueFd watch(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!watch) return ErrnoToStatus(errno, "signalfd");
  MUSTER_RETURN_IF_ERROR(loop->Add(watch.get(), EPOLLIN, [fd = watch.get(), on_signal = std::move(on_signal)](uint32_t) {
    signalfd_siginfo info;
    while (::read(fd, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      on_signal(static_cast<int>(info.ssi_signo), SenderOf(info));
    }
  }));
  return watch;
}

}  // namespace muster
