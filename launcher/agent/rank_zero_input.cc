#include "launcher/agent/rank_zero_input.h"

#include <utility>

#include "runtime/base/status.h"

namespace muster {

void RankZeroInput::Feed(v1::Input input) {
  ended_ = ended_ || input.end();
  input_ = std::move(input);
  Pass();
}

void RankZeroInput::Pass() {
  if (fed_ == nullptr || !input_) return;
  owed_ = true;
  fed_->Feed(std::move(*input_->mutable_bytes()), input_->end());
  input_.reset();
}

void RankZeroInput::Taken(bool closed) {
  if (std::exchange(owed_, false)) taken_(closed);
}

absl::StatusOr<UniqueFd> RankZeroInput::Open(int source_fd, bool fed) {
  if (source_fd < 0 && (!fed || (ended_ && !input_))) return OpenEmptyStdin();
  MUSTER_ASSIGN_OR_RETURN(StdinPipe pipe, OpenStdinPipe());
  if (source_fd >= 0) {
    MUSTER_ASSIGN_OR_RETURN(forwarder_, StdinForwarder::Start(loop_, source_fd, std::move(pipe.our_end)));
  } else {
    MUSTER_ASSIGN_OR_RETURN(fed_, FedStdin::Start(loop_, std::move(pipe.our_end), [this](bool closed) { Taken(closed); }));
    Pass();
  }
  return std::move(pipe.worker_end);
}

void RankZeroInput::Close() {
  forwarder_.reset();
  fed_.reset();
  Taken(false);
}

}  // namespace muster
