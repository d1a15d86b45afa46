#include "launcher/process/rank_inquiry.h"

#include <utility>

namespace muster {

RankInquiry::~RankInquiry() {
  if (timer_) loop_->Cancel(*timer_);
}

void RankInquiry::Start(const std::set<uint32_t>& nodes, absl::Duration patience, const std::function<void(uint32_t node)>& ask,
                        std::function<void(std::vector<v1::RankState> states)> done) {
  if (done_) return;
  waiting_for_ = nodes;
  states_.clear();
  done_ = std::move(done);
  timer_ = loop_->After(nodes.empty() ? absl::ZeroDuration() : patience, [this] {
    timer_.reset();
    Finish();
  });
  for (const uint32_t node : nodes) ask(node);
}

void RankInquiry::Answered(uint32_t node, const v1::RankStates& states) {
  if (!done_ || waiting_for_.erase(node) == 0) return;
  states_.insert(states_.end(), states.states().begin(), states.states().end());
  if (waiting_for_.empty()) Finish();
}

void RankInquiry::Finish() {
  if (!done_) return;
  if (timer_) loop_->Cancel(*timer_);
  timer_.reset();
  std::exchange(done_, nullptr)(std::move(states_));
}

}  // namespace muster
