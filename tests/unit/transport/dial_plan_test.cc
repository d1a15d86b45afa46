#include "runtime/transport/dial_plan.h"

#include <map>
#include <numeric>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// The ranks that are dialled, in their order.
std::vector<int> Dialled(int rank, const std::vector<int>& peers) {
  std::vector<int> ranks;
  for (const size_t place : DialOrder(rank, peers)) ranks.push_back(peers[place]);
  return ranks;
}

TEST(DialPlan, TheNearestBelowComesFirst) {
  EXPECT_THAT(Dialled(4, {0, 1, 2, 3, 5, 6}), ElementsAre(3, 2, 1, 0));
  EXPECT_THAT(Dialled(4, {6, 1, 3, 0, 5}), ElementsAre(3, 1, 0)) << "in whatever order they stand";
  EXPECT_THAT(Dialled(0, {1, 2, 3}), IsEmpty());
  EXPECT_THAT(Dialled(7, {}), IsEmpty());
}

TEST(DialPlan, OfTwoRanksExactlyOneDials) {
  constexpr int kRanks = 9;
  std::map<std::pair<int, int>, int> connections;
  for (int rank = 0; rank < kRanks; ++rank) {
    std::vector<int> peers;
    for (int peer = 0; peer < kRanks; ++peer) {
      if (peer != rank) peers.push_back(peer);
    }
    for (const int peer : Dialled(rank, peers)) ++connections[{std::min(rank, peer), std::max(rank, peer)}];
  }
  EXPECT_EQ(connections.size(), kRanks * (kRanks - 1) / 2u);
  for (const auto& [pair, count] : connections) EXPECT_EQ(count, 1);
}

// However far ranks that began together have got, nobody is dialled by two of them with the same try; with rank 0 first it would be all.
TEST(DialPlan, RanksThatBeginTogetherDialDifferentPeers) {
  constexpr int kRanks = 64;
  for (size_t step = 0; step < kRanks - 1; ++step) {
    std::map<int, int> dialled;
    for (int rank = 0; rank < kRanks; ++rank) {
      std::vector<int> below(static_cast<size_t>(rank));
      std::iota(below.begin(), below.end(), 0);
      const std::vector<int> order = Dialled(rank, below);
      if (step < order.size()) ++dialled[order[step]];
    }
    for (const auto& [peer, count] : dialled) EXPECT_EQ(count, 1) << "rank " << peer << ", step " << step;
  }
}

TEST(DialPlan, SoManyTriesAreOnTheWayAtOnce) {
  DialBudget fresh(0);
  int begun = 0;
  while (begun < 1000 && fresh.Take()) ++begun;
  EXPECT_EQ(begun, kDialsYoungMax);
  EXPECT_TRUE(fresh.is_spent());
  EXPECT_FALSE(fresh.Take());
  DialBudget nearly(kDialsYoungMax - 1);
  EXPECT_TRUE(nearly.Take());
  EXPECT_FALSE(nearly.Take());
  EXPECT_TRUE(DialBudget(kDialsYoungMax).is_spent());
  EXPECT_TRUE(DialBudget(kDialsYoungMax + 5).is_spent());
}

}  // namespace
}  // namespace muster
