// Standard input for the ranks of one node that read it: one of them, or all.
#ifndef MUSTER_LAUNCHER_AGENT_STDIN_FAN_OUT_H_
#define MUSTER_LAUNCHER_AGENT_STDIN_FAN_OUT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "launcher/agent/stdin_forwarder.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

// Whose standard input the job's is.
struct StdinReaders {
  enum class Kind { kOne, kAll, kNone };
  Kind kind = Kind::kOne;
  uint32_t rank = 0;  // of kOne

  bool reads(uint32_t one) const { return kind == Kind::kAll || (kind == Kind::kOne && one == rank); }
  friend bool operator==(const StdinReaders&, const StdinReaders&) = default;
};

// Each reader gets every byte. The slowest living one sets the pace, a piece and a pipe behind the others at most; one that has
// closed its end, or has died, is waited for no longer. Belongs to the loop's thread, in which SIGPIPE is blocked.
class StdinFanOut {
 public:
  // `taken` is called from the loop after each Feed, once the piece is in the pipes of all that still read; with `closed` when none
  // does.
  StdinFanOut(EventLoop* loop, std::function<void(bool closed)> taken) : loop_(loop), taken_(std::move(taken)) {}

  // `worker_fd`: the write end of a reader's pipe. All readers are added before the first Feed.
  absl::Status Add(UniqueFd worker_fd);
  size_t readers() const { return readers_.size(); }
  // One piece at a time: the next after `taken`. `end` closes the readers' stdin behind it.
  void Feed(const std::string& bytes, bool end);

 private:
  struct Reader {
    std::unique_ptr<FedStdin> fed;
    bool closed = false;
    bool owes = false;  // its part of this piece
  };
  void Taken(size_t reader, bool closed);

  EventLoop* const loop_;
  const std::function<void(bool closed)> taken_;
  std::vector<Reader> readers_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_STDIN_FAN_OUT_H_
