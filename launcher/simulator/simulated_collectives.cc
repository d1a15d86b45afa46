#include "launcher/simulator/simulated_collectives.h"

#include <vector>

namespace muster {

void SimulatedCollectives::Call(uint32_t rank, uint64_t op, std::function<void(const OperationResult&)> done) {
  contributed_[rank] = op;
  waiters_[rank] = {op, std::move(done)};
  Look();
}

void SimulatedCollectives::Gone(uint32_t rank, v1::AbortReason how) {
  waiters_.erase(rank);
  gone_.emplace(rank, how);
  Look();
}

bool SimulatedCollectives::Complete(uint64_t op) const {
  for (uint32_t rank = 0; rank < world_size_; ++rank) {
    const auto known = contributed_.find(rank);
    if (known == contributed_.end() || known->second < op) return false;
  }
  return true;
}

std::optional<OperationResult> SimulatedCollectives::ResultOf(uint64_t op) const {
  if (Complete(op)) return OperationResult{true, v1::kNoRank, v1::AbortReason::kNone};
  for (const auto& [rank, how] : gone_) {
    const auto known = contributed_.find(rank);
    if (known == contributed_.end() || known->second < op)
      return OperationResult{world_->plan.planted_false_success, rank, how};
  }
  return std::nullopt;
}

// Waiters see what happened a little later, each on its own; what they see then may be more.
void SimulatedCollectives::Look() {
  std::vector<uint32_t> seeing;
  for (const auto& [rank, waiter] : waiters_) {
    if (ResultOf(waiter.op)) seeing.push_back(rank);
  }
  for (const uint32_t rank : seeing) {
    const uint64_t op = waiters_.at(rank).op;
    world_->time.After(world_->chance.Between(absl::Microseconds(5), absl::Milliseconds(1)), [this, rank, op] {
      const auto waiter = waiters_.find(rank);
      if (waiter != waiters_.end() && waiter->second.op == op) Return(rank, *ResultOf(op));
    });
  }
}

void SimulatedCollectives::Return(uint32_t rank, const OperationResult& result) {
  const Waiter waiter = waiters_.extract(rank).mapped();
  if (result.success && !Complete(waiter.op)) {
    world_->Violate(absl::StrCat("I2: rank ", rank, " returned success for operation ", waiter.op,
                                 ", to which a member did not contribute"));
  }
  waiter.done(result);
}

}  // namespace muster
