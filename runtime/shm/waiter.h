// How a rank waits for words that its peers write in shared memory, and how it wakes them.
//
// A wait ends when a condition over single-writer words holds. Every rank that takes part waits for the same condition and
// publishes its own word of it first, so the rank whose publication completes the condition can see that it does:
//
//   publish    exchange the own word (seq_cst), look at the condition; if it holds, read every peer's `asleep`, and for each
//              that is set bump its doorbell and FUTEX_WAKE it. Publishers that see it incomplete wake nobody and wait.
//   wait       look; spin for the policy's time, with a yield between every 32 looks; yield the policy's number of times; then
//              sleep:
//   sleep      read the own doorbell, set `asleep` by exchange (seq_cst), look once more, FUTEX_WAIT while the doorbell has the
//              value read, clear `asleep`. Never longer than 100 ms; what is found only then is counted as a late wake.
//   look       the condition first; then the abort word; then `left` of the awaited rank; then the deadline. A rank publishes
//              before it leaves, and the agent raises the abort word after a death, so the condition is looked at once more
//              before either ends the wait: an operation whose contributions are all there succeeds.
//
// No wake-up is lost: all these accesses are in one total order (seq_cst). A sleeper's last look missed some publication, so
// its `asleep` comes before that publication and before the last one; the last publisher sees the condition hold and reads
// `asleep` after that. tests/unit/shm/waiter_model_test.cc enumerates the interleavings.
#ifndef MUSTER_RUNTIME_SHM_WAITER_H_
#define MUSTER_RUNTIME_SHM_WAITER_H_

#include <atomic>
#include <cstdint>
#include <optional>

#include "absl/functional/function_ref.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/shm/node_memory.h"

namespace muster {

enum class WaitEnd { kDone, kAborted, kPeerLeft, kDeadline };

struct WaitOutcome {
  WaitEnd end = WaitEnd::kDone;
  int missing = -1;  // local rank that had not published when the wait ended badly
};

// One thread of one rank at a time.
class Waiter {
 public:
  // -1 when the condition holds, else the local rank of one that is missing. Must stay -1 once it was.
  using Condition = absl::FunctionRef<int()>;

  static constexpr int64_t kSleepMaxNanoseconds = 100'000'000;

  Waiter(NodeMemory memory, int local_rank);

  // What a rank does between looks and sleeps while it waits; shared memory does not wake it for that.
  using Meanwhile = std::optional<absl::FunctionRef<void()>>;
  static constexpr int64_t kMeanwhileNanoseconds = 200'000;

  // Publishes `value` in `word`, which only this rank writes, and waits until `condition` holds. `deadline` is in
  // MonotonicNanoseconds(). With `may_spin` false the wait goes straight to sleep after the first look. With `meanwhile` a sleep
  // lasts kMeanwhileNanoseconds at most.
  WaitOutcome PublishAndWait(std::atomic<uint64_t>& word, uint64_t value, Condition condition, int64_t deadline, bool may_spin,
                             Meanwhile meanwhile = std::nullopt);

 private:
  bool Look(Condition condition, WaitOutcome& outcome) const;
  bool Spin(Condition condition, int64_t deadline, WaitOutcome& outcome);
  bool Yield(Condition condition, int64_t deadline, WaitOutcome& outcome);
  bool Sleep(Condition condition, int64_t deadline, int64_t nanoseconds_max, WaitOutcome& outcome);
  void WakeSleepers();

  const NodeMemory memory_;
  v1::RankArea* areas_;
  v1::RankArea& own_;
  std::atomic<uint32_t>& doorbell_;
  int local_rank_;
  int local_size_;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_SHM_WAITER_H_
