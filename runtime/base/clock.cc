#include "runtime/base/clock.h"

#include <time.h>

#include <limits>

#include "absl/time/clock.h"

namespace muster {

int64_t MonotonicNanoseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

int64_t MonotonicDeadline(absl::Time deadline) {
  constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  if (deadline == absl::InfiniteFuture()) return kNever;
  const absl::Duration left = deadline - absl::Now();
  if (left > absl::Hours(24 * 365 * 100)) return kNever;
  const int64_t now = MonotonicNanoseconds();
  if (left < absl::ZeroDuration()) return now;  // however long ago: later sums must not overflow
  return now + absl::ToInt64Nanoseconds(left);
}

}  // namespace muster
