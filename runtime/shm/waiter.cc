#include "runtime/shm/waiter.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "runtime/base/clock.h"

namespace muster {
namespace {

// A single-writer counter: no other rank adds to it, so a plain load and store will do.
void Count(std::atomic<uint64_t>& counter, uint64_t by = 1) {
  counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
}

void Relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// True when the kernel's time ran out first.
bool FutexWait(std::atomic<uint32_t>& word, uint32_t value, int64_t nanoseconds) {
  const timespec timeout = {static_cast<time_t>(nanoseconds / 1'000'000'000), static_cast<long>(nanoseconds % 1'000'000'000)};
  const long rc = ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT, value, &timeout, nullptr, 0);
  return rc != 0 && errno == ETIMEDOUT;
}

}  // namespace

Waiter::Waiter(NodeMemory memory, int local_rank)
    : memory_(std::move(memory)),
      areas_(&v1::RankAreaOf(memory_.own(), 0)),
      own_(areas_[local_rank]),
      doorbell_(memory_.doorbell(local_rank)),
      local_rank_(local_rank),
      local_size_(static_cast<int>(memory_.own()->local_size)) {}

WaitOutcome Waiter::PublishAndWait(std::atomic<uint64_t>& word, uint64_t value, Condition condition, int64_t deadline,
                                   bool may_spin, Meanwhile meanwhile) {
  word.exchange(value, std::memory_order_seq_cst);
  if (condition() < 0) {
    WakeSleepers();
    return {};
  }
  WaitOutcome outcome;
  const int64_t sleep_max = meanwhile.has_value() ? kMeanwhileNanoseconds : kSleepMaxNanoseconds;
  if (meanwhile.has_value()) (*meanwhile)();
  if (may_spin && (Spin(condition, deadline, outcome) || Yield(condition, deadline, outcome))) return outcome;
  do {
    if (meanwhile.has_value()) (*meanwhile)();
  } while (!Sleep(condition, deadline, sleep_max, outcome));
  return outcome;
}

// True when the wait is over.
bool Waiter::Look(Condition condition, WaitOutcome& outcome) const {
  int missing = condition();
  if (missing < 0) return outcome = {}, true;
  const bool aborted = memory_.ended() != nullptr;
  const bool left = memory_.HasLeft(missing);
  if (!aborted && !left) return false;
  const int still_missing = condition();
  if (still_missing < 0) return outcome = {}, true;
  if (aborted) return outcome = {WaitEnd::kAborted, still_missing}, true;
  // The one that left may have arrived since, and another be missing.
  if (still_missing != missing) return false;
  return outcome = {WaitEnd::kPeerLeft, missing}, true;
}

bool Waiter::Spin(Condition condition, int64_t deadline, WaitOutcome& outcome) {
  const int64_t spin = memory_.waiting().spin_nanoseconds.load(std::memory_order_relaxed);
  if (spin == 0) return false;
  int64_t end = 0;  // the clock is read only once the wait turns out not to be over at once
  for (int looks = 1;; ++looks) {
    if (Look(condition, outcome)) return true;
    Relax();
    if (looks % 32 != 0) continue;
    const int64_t now = MonotonicNanoseconds();
    if (end == 0) end = std::min(now + spin, deadline);
    if (now >= end) return false;
    // The rank it waits for may be queued behind it on this core, when something else runs on the others: then spinning on
    // would keep it away for the whole spin.
    ::sched_yield();
    Count(own_.yields);
  }
}

bool Waiter::Yield(Condition condition, int64_t deadline, WaitOutcome& outcome) {
  const uint32_t yields = memory_.waiting().yields.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < yields; ++i) {
    if (Look(condition, outcome)) return true;
    if (i % 16 == 15 && MonotonicNanoseconds() >= deadline) return false;
    ::sched_yield();
    Count(own_.yields);
  }
  return false;
}

// Sleeps once. True when the wait is over.
bool Waiter::Sleep(Condition condition, int64_t deadline, int64_t nanoseconds_max, WaitOutcome& outcome) {
  const uint32_t doorbell = doorbell_.load(std::memory_order_seq_cst);
  own_.asleep.exchange(1, std::memory_order_seq_cst);
  if (Look(condition, outcome)) {
    own_.asleep.exchange(0, std::memory_order_seq_cst);
    return true;
  }
  const int64_t left = deadline - MonotonicNanoseconds();
  bool timed_out = false;
  if (left > 0) {
    timed_out = FutexWait(doorbell_, doorbell, std::min(left, nanoseconds_max));
    Count(own_.sleeps);
  }
  own_.asleep.exchange(0, std::memory_order_seq_cst);
  if (Look(condition, outcome)) {
    if (timed_out && nanoseconds_max == kSleepMaxNanoseconds)
      memory_.seat_area(local_rank_).late_wakes.fetch_add(1, std::memory_order_relaxed);
    return true;
  }
  if (MonotonicNanoseconds() < deadline) return false;
  outcome = {WaitEnd::kDeadline, condition()};
  if (outcome.missing < 0) outcome = {};
  return true;
}

void Waiter::WakeSleepers() {
  for (int i = 0; i < local_size_; ++i) {
    if (i == local_rank_ || areas_[i].asleep.load(std::memory_order_seq_cst) == 0) continue;
    memory_.Ring(i);
    Count(own_.wakes_sent);
  }
}

}  // namespace muster
