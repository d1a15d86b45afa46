// muster's stdin on its way to a worker.
#ifndef MUSTER_LAUNCHER_AGENT_STDIN_FORWARDER_H_
#define MUSTER_LAUNCHER_AGENT_STDIN_FORWARDER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

// Belongs to the loop's thread; at most 64 KiB are held in between, so a worker that does not read stops the reading, never the
// loop. A terminal is read only while muster is in its foreground: in the background it waits, and never gets stopped by
// SIGTTIN. SIGPIPE and SIGTTIN are blocked in the thread that calls Start. The end of the input closes the worker's.
class StdinForwarder {
 public:
  // Forwards from `source_fd` (borrowed, its flags untouched) to `worker_fd`, the write end of the worker's stdin pipe.
  static absl::StatusOr<std::unique_ptr<StdinForwarder>> Start(EventLoop* loop, int source_fd, UniqueFd worker_fd);
  virtual ~StdinForwarder() = default;  // closes the worker's stdin

  // False once the input has ended and been passed on, or the worker has closed its end.
  virtual bool active() const = 0;
};

// The same for input that comes in messages, a piece at a time. Belongs to the loop's thread, in which SIGPIPE is blocked.
class FedStdin {
 public:
  // `taken` is called from the loop after each Feed once the piece is in the worker's pipe; or with `closed` when the worker has
  // closed its end, then and after every later Feed.
  static absl::StatusOr<std::unique_ptr<FedStdin>> Start(EventLoop* loop, UniqueFd worker_fd,
                                                         std::function<void(bool closed)> taken);
  virtual ~FedStdin() = default;  // closes the worker's stdin

  // One piece at a time: the next after `taken`. `end` closes the worker's stdin behind it.
  virtual void Feed(std::string bytes, bool end) = 0;
};

// Our stdin, a piece at a time, for whoever carries it on in messages. Belongs to the loop's thread. All the care that a terminal or
// a shared pipe needs is StdinForwarder's.
class StdinPieces {
 public:
  // `piece` is called from the loop, once for each Next; `end` comes once, with the last. `source_fd` is borrowed.
  static absl::StatusOr<std::unique_ptr<StdinPieces>> Start(EventLoop* loop, int source_fd, size_t piece_bytes_max,
                                                            std::function<void(std::string bytes, bool end)> piece);
  virtual ~StdinPieces() = default;

  // The next piece, please: when there is one. Nothing more after the end.
  virtual void Next() = 0;
  // Reads nothing more.
  virtual void Stop() = 0;
};

struct StdinPipe {
  UniqueFd our_end;     // for StdinForwarder::Start
  UniqueFd worker_end;  // becomes the worker's descriptor 0
};
absl::StatusOr<StdinPipe> OpenStdinPipe();
// /dev/null, for all ranks that read no input.
absl::StatusOr<UniqueFd> OpenEmptyStdin();

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_STDIN_FORWARDER_H_
