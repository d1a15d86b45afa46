#include "runtime/backend/shared/pause.h"

#include <sched.h>
#include <time.h>

namespace muster {
namespace {

constexpr int64_t kMillisecond = 1'000'000;

}  // namespace

void YieldThenNap(int64_t waited) {
  if (waited < 2 * kMillisecond) {
    ::sched_yield();
    return;
  }
  const struct timespec nap = {0, waited < 100 * kMillisecond ? 50'000 : 500'000};
  ::nanosleep(&nap, nullptr);
}

}  // namespace muster
