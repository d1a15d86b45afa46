// Time as an argument, so that tests can own it.
#ifndef MUSTER_RUNTIME_BASE_CLOCK_H_
#define MUSTER_RUNTIME_BASE_CLOCK_H_

#include <cstdint>

#include "absl/time/time.h"

namespace muster {

// CLOCK_MONOTONIC; the only clock that decisions are made by.
int64_t MonotonicNanoseconds();

// A deadline given in wall time, as nanoseconds of MonotonicNanoseconds(); INT64_MAX for InfiniteFuture().
int64_t MonotonicDeadline(absl::Time deadline);

}  // namespace muster

#endif  // MUSTER_RUNTIME_BASE_CLOCK_H_
