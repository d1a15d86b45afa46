// Where rank 0's standard input comes from: muster's own, messages of a coordinator, or nowhere.
#ifndef MUSTER_LAUNCHER_AGENT_RANK_ZERO_INPUT_H_
#define MUSTER_LAUNCHER_AGENT_RANK_ZERO_INPUT_H_

#include <functional>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "launcher/agent/stdin_forwarder.h"
#include "muster/v1/agent.pb.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

// Outlives the generations: what comes while there is no rank 0 waits for the next one. Belongs to the loop's thread.
class RankZeroInput {
 public:
  // `taken`: the worker has what was fed last, or (`closed`) it will not read on; the next piece, please.
  RankZeroInput(EventLoop* loop, std::function<void(bool closed)> taken) : loop_(loop), taken_(std::move(taken)) {}

  // From the coordinator; one piece at a time. It may come before its reader.
  void Feed(v1::Input input);
  // The descriptor 0 of a rank 0. `source_fd`: forwarded to it (borrowed); -1: none. `fed`: it gets what Feed brings.
  absl::StatusOr<UniqueFd> Open(int source_fd, bool fed);
  // That rank 0 is gone: what it had not read is lost with it.
  void Close();

 private:
  void Pass();
  void Taken(bool closed);

  EventLoop* const loop_;
  const std::function<void(bool closed)> taken_;
  std::unique_ptr<StdinForwarder> forwarder_;
  std::unique_ptr<FedStdin> fed_;
  std::optional<v1::Input> input_;  // not passed on yet
  bool owed_ = false;               // `taken`, for what was passed on last
  bool ended_ = false;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_RANK_ZERO_INPUT_H_
