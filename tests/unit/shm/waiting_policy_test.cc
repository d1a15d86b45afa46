#include "proto/muster/v1/waiting_policy.h"

#include <gtest/gtest.h>

namespace muster::v1 {
namespace {

TEST(WaitingPolicy, RanksWithACoreEachSpin) {
  const std::vector<ProcessorMask> masks(2, {0b11});
  const WaitingAdvice advice = AdviseWaiting(masks, 0);
  EXPECT_FALSE(advice.oversubscribed);
  EXPECT_EQ(advice.spin_nanoseconds, kSpinNanoseconds);
  EXPECT_EQ(advice.yields, kYields);
}

TEST(WaitingPolicy, MoreRanksThanCoresYield) {
  const std::vector<ProcessorMask> masks(3, {0b11});
  const WaitingAdvice advice = AdviseWaiting(masks, 0);
  EXPECT_TRUE(advice.oversubscribed);
  EXPECT_EQ(advice.spin_nanoseconds, 0u);
  EXPECT_EQ(advice.yields, kYields);
}

TEST(WaitingPolicy, TheBusiestCoreDecides) {
  // Enough cores in all, but two ranks are bound to the same one.
  EXPECT_TRUE(AdviseWaiting(std::vector<ProcessorMask>{{0b0001}, {0b0001}, {0b1110}}, 0).oversubscribed);
  // Three ranks share two cores, whoever else has more.
  EXPECT_TRUE(AdviseWaiting(std::vector<ProcessorMask>{{0b0011}, {0b0011}, {0b0011}, {0b1111}}, 0).oversubscribed);
  // An assignment exists, though a greedy one from the front would miss it.
  EXPECT_FALSE(AdviseWaiting(std::vector<ProcessorMask>{{0b0111}, {0b0001}, {0b0011}}, 0).oversubscribed);
}

TEST(WaitingPolicy, CoresBeyondTheFirstWordCount) {
  EXPECT_FALSE(AdviseWaiting(std::vector<ProcessorMask>{{1}, {0, 1}, {0, uint64_t{1} << 63}}, 0).oversubscribed);
}

TEST(WaitingPolicy, AQuotaBelowTheRanksMeansSharing) {
  const std::vector<ProcessorMask> masks(2, {0b1111});
  EXPECT_TRUE(AdviseWaiting(masks, 1999).oversubscribed);
  EXPECT_FALSE(AdviseWaiting(masks, 2000).oversubscribed);
}

TEST(WaitingPolicy, AnUnknownMaskCountsAsSharing) {
  EXPECT_TRUE(AdviseWaiting(std::vector<ProcessorMask>{{0b11}, {}}, 0).oversubscribed);
}

}  // namespace
}  // namespace muster::v1
