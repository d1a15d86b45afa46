#include "runtime/bench/placement.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <set>
#include <thread>

namespace muster::bench {
namespace {

TEST(Placement, EveryRankGetsACoreOfItsOwnOrNoneDoes) {
  const int cores = UsableCores();
  std::set<int> used;
  for (int rank = 0; rank < cores; ++rank) {
    std::thread([&] {
      ASSERT_TRUE(BindToOwnCore(rank, cores));
      EXPECT_EQ(UsableCores(), 1);
      used.insert(sched_getcpu());
    }).join();
  }
  EXPECT_EQ(static_cast<int>(used.size()), cores);
  EXPECT_FALSE(BindToOwnCore(0, cores + 1));
  EXPECT_EQ(UsableCores(), cores);
}

}  // namespace
}  // namespace muster::bench
