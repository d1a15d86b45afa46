// How ranks that share a node should wait for each other: a pure function of the processors they may use.
#ifndef MUSTER_PROTO_V1_WAITING_POLICY_H_
#define MUSTER_PROTO_V1_WAITING_POLICY_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "proto/muster/v1/control_memory.h"

namespace muster::v1 {

// Bit c % 64 of word c / 64: processor c may be used (sched_getaffinity).
using ProcessorMask = std::vector<uint64_t>;

struct WaitingAdvice {
  uint32_t spin_nanoseconds = 0;
  uint32_t yields = 0;
  bool oversubscribed = false;
};

// Spinning and yielding together cost about what they try to avoid, a futex wake across cores (measured at 36-50 us): a
// sched_yield costs 0.3 us where nobody else wants the processor, and hands over in 0.7 us where a peer does. Ranks with a
// processor each yield too: the scheduler may have put two on one, and a rank that only spins keeps its peer from running.
inline constexpr uint32_t kSpinNanoseconds = 2'000;
inline constexpr uint32_t kYields = 100;

// Whether every rank can have a processor of its own out of its mask: a matching of ranks to processors, by augmenting paths.
// This is the busiest core's question: two ranks bound to one core share it however many others stand idle.
class ProcessorMatching {
 public:
  explicit ProcessorMatching(std::span<const ProcessorMask> masks) : masks_(masks) {
    size_t words = 0;
    for (const ProcessorMask& mask : masks_) words = std::max(words, mask.size());
    owner_.assign(words * 64, -1);
  }

  bool CoversAllRanks() {
    for (size_t rank = 0; rank < masks_.size(); ++rank) {
      visited_.assign(owner_.size(), false);
      if (!Place(static_cast<int>(rank))) return false;
    }
    return true;
  }

 private:
  bool Place(int rank) {
    const ProcessorMask& mask = masks_[static_cast<size_t>(rank)];
    for (size_t c = 0; c < mask.size() * 64; ++c) {
      if ((mask[c / 64] >> (c % 64) & 1) == 0 || visited_[c]) continue;
      visited_[c] = true;
      if (owner_[c] < 0 || Place(owner_[c])) {
        owner_[c] = rank;
        return true;
      }
    }
    return false;
  }

  std::span<const ProcessorMask> masks_;
  std::vector<int> owner_;
  std::vector<bool> visited_;
};

// `masks`: one a rank on this node. `quota_millicores`: the cgroup's limit for all of them together, 0 for none.
// An empty mask (unknown) counts as sharing.
inline WaitingAdvice AdviseWaiting(std::span<const ProcessorMask> masks, int64_t quota_millicores) {
  const bool within_quota = quota_millicores == 0 || quota_millicores >= static_cast<int64_t>(masks.size()) * 1000;
  if (within_quota && ProcessorMatching(masks).CoversAllRanks()) return {kSpinNanoseconds, kYields, false};
  return {0, kYields, true};
}

// Any time; ranks read the policy anew at every wait.
inline void StoreWaitingAdvice(const WaitingAdvice& advice, WaitingPolicy& policy) {
  policy.spin_nanoseconds.store(advice.spin_nanoseconds, std::memory_order_relaxed);
  policy.yields.store(advice.yields, std::memory_order_relaxed);
  policy.oversubscribed.store(advice.oversubscribed ? 1 : 0, std::memory_order_relaxed);
}

}  // namespace muster::v1

#endif  // MUSTER_PROTO_V1_WAITING_POLICY_H_
