#include "launcher/topology/link_rounds.h"

#include <map>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

void ExpectNobodyTwice(const LinkRound& round) {
  std::set<int> busy;
  for (const auto& [a, b] : round) {
    EXPECT_LT(a, b);
    EXPECT_TRUE(busy.insert(a).second) << a;
    EXPECT_TRUE(busy.insert(b).second) << b;
  }
}

TEST(LinkRounds, ATournamentHasEveryPairOnceAndNobodyTwiceInARound) {
  for (int nodes = 0; nodes <= 65; ++nodes) {
    const std::vector<LinkRound> rounds = TournamentRounds(nodes);
    std::set<LinkPair> pairs;
    for (const LinkRound& round : rounds) {
      ExpectNobodyTwice(round);
      for (const LinkPair& pair : round) EXPECT_TRUE(pairs.insert(pair).second) << nodes;
    }
    EXPECT_EQ(pairs.size(), static_cast<size_t>(nodes * std::max(nodes - 1, 0) / 2)) << nodes;
    if (nodes < 2) continue;
    EXPECT_EQ(rounds.size(), static_cast<size_t>(nodes % 2 == 0 ? nodes - 1 : nodes));
  }
}

TEST(LinkRounds, ATournamentAmongSome) {
  const std::vector<LinkRound> rounds = TournamentRounds({7, 3, 9});
  std::set<LinkPair> pairs;
  for (const LinkRound& round : rounds) pairs.insert(round.begin(), round.end());
  EXPECT_EQ(pairs, (std::set<LinkPair>{{3, 7}, {3, 9}, {7, 9}}));
}

TEST(LinkRounds, SamplesRepeatNoPairAndAreTheSameForASeed) {
  const std::vector<LinkRound> rounds = SampledRounds(101, 20, 7);
  std::set<LinkPair> pairs;
  size_t all = 0;
  for (const LinkRound& round : rounds) {
    ExpectNobodyTwice(round);
    pairs.insert(round.begin(), round.end());
    all += round.size();
  }
  EXPECT_EQ(pairs.size(), all);
  EXPECT_GT(all, 20u * 50 * 8 / 10) << "most of the pairs of most rounds are new";
  EXPECT_EQ(rounds, SampledRounds(101, 20, 7));
  EXPECT_NE(rounds, SampledRounds(101, 20, 8));
}

TEST(LinkRounds, MoreRoundsForSmallerGroups) {
  EXPECT_LT(SampledRoundsFor(1024, 64), SampledRoundsFor(1024, 16));
  EXPECT_LE(SampledRoundsFor(1024, 2), 1023);
  EXPECT_LT(SampledRoundsFor(1024, 32), 300);
}

}  // namespace
}  // namespace muster
