// Signals of this process, read on its loop.
#ifndef MUSTER_LAUNCHER_PROCESS_SIGNAL_WATCH_H_
#define MUSTER_LAUNCHER_PROCESS_SIGNAL_WATCH_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

// Blocks SIGINT, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 in the calling thread and those it makes later (so call it before any is made), and calls
// `on_signal` on the loop for each, with who sent it as SenderOf (signal_sender.h) says. The descriptor is to live as long as the loop runs. Source: signalfd(2).
absl::StatusOr<UniqueFd> WatchEndingSignals(EventLoop* loop, std::function<void(int signal, const std::string& by)> on_signal);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_SIGNAL_WATCH_H_
