// The search for a cycle beside the best of all, on random measurements.
#include <algorithm>
#include <numeric>

#include "gtest/gtest.h"
#include "launcher/planner/bottleneck_cycle.h"
#include "tests/support/seeds.h"

namespace muster {
namespace {

constexpr char kProgram[] = "planner_cycle_property_test";

double Unit(std::mt19937_64& random) { return static_cast<double>(random() >> 11) / static_cast<double>(uint64_t{1} << 53); }

// Of one of several kinds: nothing in common, the same both ways, points in a plane, few different speeds (switch tiers), clusters
// with noise.
EdgeCosts RandomCosts(std::mt19937_64& random, int size) {
  EdgeCosts costs(size);
  const int kind = Below(random, 5);
  std::vector<std::pair<double, double>> points;
  for (int i = 0; i < size; ++i) points.emplace_back(Unit(random), Unit(random));
  for (int i = 0; i < size; ++i) {
    for (int j = 0; j < size; ++j) {
      if (i == j) continue;
      if (kind > 0 && kind < 4 && j < i) {
        costs.Set(i, j, costs.slowness(j, i), costs.latency(j, i));
        continue;
      }
      double slowness = Unit(random), latency = Unit(random);
      if (kind == 2) {
        slowness = std::hypot(points[i].first - points[j].first, points[i].second - points[j].second);
        latency = slowness * 1e-3;
      }
      if (kind == 3) slowness = 1 + Below(random, 3);
      if (kind == 4) slowness = (i % 3 == j % 3 ? 1 : 4) * (1 + 0.05 * slowness);
      costs.Set(i, j, slowness, latency);
    }
  }
  return costs;
}

bool IsCycle(std::vector<int> cycle, int size) {
  std::vector<int> all(static_cast<size_t>(size));
  std::iota(all.begin(), all.end(), 0);
  std::sort(cycle.begin(), cycle.end());
  return cycle == all;
}

// The oracle beside the plainest thing there is.
TEST(Cycle, ExactIsTheBestOfAllOrders) {
  ForEachSeed(40, kProgram, [](std::mt19937_64& random) {
    const int size = 2 + Below(random, 6);
    const EdgeCosts costs = RandomCosts(random, size);
    std::vector<int> order(static_cast<size_t>(size));
    std::iota(order.begin(), order.end(), 0);
    double slowest = CostOf(costs, order).slowest;
    do {
      slowest = std::min(slowest, CostOf(costs, order).slowest);
    } while (std::next_permutation(order.begin() + 1, order.end()));
    double latency = 1e300;
    do {
      if (CostOf(costs, order).slowest <= slowest * kSameSlowness) latency = std::min(latency, CostOf(costs, order).latency);
    } while (std::next_permutation(order.begin() + 1, order.end()));
    const std::vector<int> exact = ExactCycle(costs);
    ASSERT_TRUE(IsCycle(exact, size));
    EXPECT_LE(CostOf(costs, exact).slowest, slowest * kSameSlowness);
    EXPECT_NEAR(CostOf(costs, exact).latency, latency, 1e-9);
  });
}

TEST(Cycle, SearchIsWithinTwoPercentOfTheExactOptimum) {
  double worst_slowest = 1, worst_latency = 1;
  ForEachSeed(400, kProgram, [&](std::mt19937_64& random) {
    const int size = 3 + Below(random, kExactCycleMax - 2);
    const EdgeCosts costs = RandomCosts(random, size);
    const std::vector<int> found = SearchCycle(costs), best = ExactCycle(costs);
    ASSERT_TRUE(IsCycle(found, size));
    // The exact cycle may use what is as good as the best; the optimum of the first objective alone is no more than that.
    const CycleCost ours = CostOf(costs, found), exact = CostOf(costs, best);
    EXPECT_LE(ours.slowest, 1.02 * exact.slowest) << "of " << size;
    EXPECT_LE(ours.latency, 1.02 * exact.latency) << "of " << size;
    worst_slowest = std::max(worst_slowest, ours.slowest / exact.slowest);
    worst_latency = std::max(worst_latency, ours.latency / exact.latency);
  });
  RecordProperty("worst_slowest", std::to_string(worst_slowest));
  RecordProperty("worst_latency", std::to_string(worst_latency));
}

// Above the oracle's reach: matrices made around a cycle that is known to be fast.
TEST(Cycle, SearchFindsAFastCycleThatIsHiddenAmongSlowEdges) {
  ForEachSeed(20, kProgram, [](std::mt19937_64& random) {
    const int size = 13 + Below(random, 52);
    std::vector<int> hidden(static_cast<size_t>(size));
    std::iota(hidden.begin(), hidden.end(), 0);
    for (size_t i = hidden.size(); i > 1; --i) std::swap(hidden[i - 1], hidden[random() % i]);
    EdgeCosts costs(size);
    for (int i = 0; i < size; ++i) {
      // One other edge in four is as fast as those of the cycle.
      for (int j = 0; j < size; ++j) costs.Set(i, j, Below(random, 4) == 0 ? 1 : 2 + Unit(random), 1);
    }
    for (size_t i = 0; i < hidden.size(); ++i) costs.Set(hidden[i], hidden[(i + 1) % hidden.size()], 1, 1);
    const std::vector<int> found = SearchCycle(costs);
    ASSERT_TRUE(IsCycle(found, size));
    EXPECT_EQ(CostOf(costs, found).slowest, 1) << "of " << size;
    EXPECT_EQ(found, SearchCycle(costs)) << "the same costs, another cycle";
  });
}

}  // namespace
}  // namespace muster
