#include "runtime/shm/waiter.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <time.h>

#include <functional>
#include <thread>

#include "proto/muster/v1/control_wake.h"
#include "proto/muster/v1/waiting_policy.h"
#include "runtime/backend/native/local_control.h"
#include "runtime/base/clock.h"

namespace muster {
namespace {

constexpr int64_t kGenerousNanoseconds = 60'000'000'000;

int64_t ThreadCpuNanoseconds() {
  timespec t;
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec * 1'000'000'000 + t.tv_nsec;
}

// Gives the processor away until `condition`; false after a generous time.
bool Until(const std::function<bool()>& condition) {
  const int64_t end = MonotonicNanoseconds() + kGenerousNanoseconds;
  while (!condition()) {
    if (MonotonicNanoseconds() > end) return false;
    ::sched_yield();
  }
  return true;
}

class WaiterTest : public testing::Test {
 protected:
  WaiterTest() : control_(*LocalControl::Create(1, 2)), waiters_{{control(), 0}, {control(), 1}} {
    // As where ranks share cores: yield, then sleep.
    v1::StoreWaitingAdvice({0, v1::kYields, true}, control()->waiting);
  }

  v1::ControlHeader* control() { return control_->header(); }
  v1::RankArea& area(uint32_t rank) { return v1::RankAreaOf(control(), rank); }

  // Both ranks wait until both have published 1 in `steps`.
  WaitOutcome Meet(uint32_t rank, int64_t deadline = INT64_MAX, bool may_spin = true,
                   Waiter::Meanwhile meanwhile = std::nullopt) {
    auto missing = [this] {
      for (uint32_t r = 0; r < 2; ++r) {
        if (area(r).steps.load() < 1) return static_cast<int>(r);
      }
      return -1;
    };
    return waiters_[rank].PublishAndWait(area(rank).steps, 1, missing, deadline, may_spin, meanwhile);
  }

  std::unique_ptr<LocalControl> control_;
  Waiter waiters_[2];
};

TEST_F(WaiterTest, YieldsABoundedNumberOfTimesThenSleepsAndIsWokenOnce) {
  std::thread sleeper([this] { EXPECT_EQ(Meet(0).end, WaitEnd::kDone); });
  ASSERT_TRUE(Until([this] { return area(0).asleep.load() == 1; }));
  EXPECT_EQ(area(0).yields.load(), v1::kYields);
  EXPECT_EQ(Meet(1).end, WaitEnd::kDone);
  sleeper.join();
  EXPECT_EQ(area(0).yields.load(), v1::kYields);
  EXPECT_EQ(area(1).wakes_sent.load(), 1u);
  EXPECT_EQ(area(1).sleeps.load(), 0u);
  EXPECT_EQ(area(0).late_wakes.load(), 0u);
  EXPECT_EQ(area(0).asleep.load(), 0u);
}

TEST_F(WaiterTest, NeitherSpinsNorYieldsWhenItMustNot) {
  v1::StoreWaitingAdvice({v1::kSpinNanoseconds, v1::kYields, true}, control()->waiting);
  std::thread sleeper([this] { EXPECT_EQ(Meet(0, INT64_MAX, /*may_spin=*/false).end, WaitEnd::kDone); });
  ASSERT_TRUE(Until([this] { return area(0).asleep.load() == 1; }));
  EXPECT_EQ(area(0).yields.load(), 0u);
  Meet(1);
  sleeper.join();
}

TEST_F(WaiterTest, ASpinnerGivesItsCoreAwayNowAndThen) {
  v1::StoreWaitingAdvice({v1::kSpinNanoseconds, 0, false}, control()->waiting);
  std::thread sleeper([this] { EXPECT_EQ(Meet(0).end, WaitEnd::kDone); });
  ASSERT_TRUE(Until([this] { return area(0).asleep.load() == 1; }));
  EXPECT_GT(area(0).yields.load(), 0u);
  Meet(1);
  sleeper.join();
}

TEST_F(WaiterTest, BurnsLessThanFiveMillisecondsOfCpuASecond) {
  for (const v1::WaitingAdvice& advice :
       {v1::WaitingAdvice{0, v1::kYields, true}, v1::WaitingAdvice{v1::kSpinNanoseconds, 0, false}}) {
    v1::StoreWaitingAdvice(advice, control()->waiting);
    area(0).steps = area(1).steps = 0;
    const uint64_t sleeps = area(0).sleeps.load();
    std::thread sleeper([this] {
      const int64_t cpu = ThreadCpuNanoseconds();
      const int64_t wall = MonotonicNanoseconds();
      EXPECT_EQ(Meet(0).end, WaitEnd::kDone);
      const double seconds = static_cast<double>(MonotonicNanoseconds() - wall) / 1e9;
      EXPECT_LT(static_cast<double>(ThreadCpuNanoseconds() - cpu) / 1e6, 5 * std::max(seconds, 1.0));
    });
    ASSERT_TRUE(Until([&] { return area(0).sleeps.load() >= sleeps + 10; }));  // ten looks of 100 ms
    Meet(1);
    sleeper.join();
  }
}

TEST_F(WaiterTest, AnAbortWakesASleeper) {
  std::thread sleeper([this] {
    const WaitOutcome outcome = Meet(0);
    EXPECT_EQ(outcome.end, WaitEnd::kAborted);
    EXPECT_EQ(outcome.missing, 1);
  });
  ASSERT_TRUE(Until([this] { return area(0).asleep.load() == 1; }));
  EXPECT_TRUE(v1::RaiseAbort(control(), v1::PackAbort(v1::AbortReason::kPeerLost, 1, 9)));
  EXPECT_FALSE(v1::RaiseAbort(control(), v1::PackAbort(v1::AbortReason::kAborted, 0, 0)));
  sleeper.join();
  EXPECT_EQ(area(0).late_wakes.load(), 0u);
}

TEST_F(WaiterTest, ALeaveWakesASleeperThatStillNeedsTheRank) {
  std::thread sleeper([this] {
    const WaitOutcome outcome = Meet(0);
    EXPECT_EQ(outcome.end, WaitEnd::kPeerLeft);
    EXPECT_EQ(outcome.missing, 1);
  });
  ASSERT_TRUE(Until([this] { return area(0).asleep.load() == 1; }));
  v1::MarkLeft(control(), 1);
  sleeper.join();
  EXPECT_EQ(area(0).late_wakes.load(), 0u);
}

TEST_F(WaiterTest, CompletionWinsOverAbortAndLeave) {
  area(1).steps = 1;
  v1::MarkLeft(control(), 1);
  v1::RaiseAbort(control(), v1::PackAbort(v1::AbortReason::kPeerLost, 1, 9));
  EXPECT_EQ(Meet(0).end, WaitEnd::kDone);
}

TEST_F(WaiterTest, ADeadlineNamesTheMissingRank) {
  const WaitOutcome outcome = Meet(0, MonotonicNanoseconds() + 20'000'000);
  EXPECT_EQ(outcome.end, WaitEnd::kDeadline);
  EXPECT_EQ(outcome.missing, 1);
}

// Many meetings of ranks that do and do not sleep: a lost wake-up would be found only by the 100 ms look and counted.
// Nobody rings the sleeper's doorbell here: what ends its wait is found between two sleeps.
TEST_F(WaiterTest, DoesWhatItIsGivenBetweenSleeps) {
  int calls = 0;
  const auto serve = [&, this] {
    if (++calls == 5) area(1).steps.store(1);
  };
  EXPECT_EQ(Meet(0, INT64_MAX, true, serve).end, WaitEnd::kDone);
  EXPECT_EQ(calls, 5);
  EXPECT_EQ(area(0).sleeps.load(), 3u);
  EXPECT_EQ(area(0).late_wakes.load(), 0u);
}

TEST_F(WaiterTest, NoWakeUpComesLate) {
  constexpr uint64_t kMeetings = 3000;
  v1::StoreWaitingAdvice({0, 2, true}, control()->waiting);
  auto run = [this](uint32_t rank) {
    for (uint64_t n = 1; n <= kMeetings; ++n) {
      auto missing = [&] { return area(1 - rank).steps.load() < n ? static_cast<int>(1 - rank) : -1; };
      ASSERT_EQ(waiters_[rank].PublishAndWait(area(rank).steps, n, missing, INT64_MAX, n % 3 != 0).end, WaitEnd::kDone);
    }
  };
  std::thread other([&] { run(1); });
  run(0);
  other.join();
  EXPECT_EQ(area(0).late_wakes.load() + area(1).late_wakes.load(), 0u);
  EXPECT_GT(area(0).sleeps.load() + area(1).sleeps.load(), 0u);
}

}  // namespace
}  // namespace muster
