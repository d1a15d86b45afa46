#include "launcher/topology/measured_groups.h"

#include <map>
#include <random>
#include <set>

#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/topology/link_rounds.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Nodes in leaves of `leaf` nodes and spines of `spine`, numbered in a shuffled order; each value up to 20 % too high.
struct World {
  World(int nodes, int leaf, int spine, uint32_t seed) : leaf(leaf), spine(spine), random(seed) {
    for (int i = 0; i < nodes; ++i) place.push_back(i);
    std::shuffle(place.begin(), place.end(), random);
  }
  int LeafOf(int node) const { return place[static_cast<size_t>(node)] / leaf; }
  int SpineOf(int node) const { return place[static_cast<size_t>(node)] / spine; }
  void Measure(const std::vector<LinkRound>& rounds) {
    for (const LinkRound& round : rounds) {
      for (const auto& [a, b] : round) {
        const double base = LeafOf(a) == LeafOf(b) ? 8000 : SpineOf(a) == SpineOf(b) ? 16000 : 40000;
        measured.push_back({a, b, static_cast<int64_t>(base * std::uniform_real_distribution<>(1, 1.2)(random)), 0});
      }
    }
  }
  const int leaf, spine;
  std::mt19937 random;
  std::vector<int> place;
  std::vector<Cluster::Measurement> measured;
};

// Whether level `level` of the groups is the same partition as `of`.
template <typename Of>
bool IsPartition(const MeasuredGroups& groups, size_t level, const Of& of) {
  std::map<std::string, int> there;
  std::map<int, std::string> back;
  for (size_t node = 0; node < groups.labels.size(); ++node) {
    std::string key;
    for (size_t i = 0; i <= level; ++i) key += groups.labels[node][i] + "/";
    const int group = of(static_cast<int>(node));
    if (there.emplace(key, group).first->second != group || back.emplace(group, key).first->second != key) return false;
  }
  return true;
}

TEST(MeasuredGroups, FindsLeavesAndSpinesFromAllPairs) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    World world(48, 8, 24, seed);
    world.Measure(TournamentRounds(48));
    const MeasuredGroups groups = InferGroups(48, world.measured);
    ASSERT_THAT(groups.levels, ElementsAre("measured-1", "measured-2")) << "seed " << seed << absl::StrJoin(groups.notes, "\n");
    EXPECT_TRUE(IsPartition(groups, 0, [&](int node) { return world.SpineOf(node); })) << "seed " << seed;
    EXPECT_TRUE(IsPartition(groups, 1, [&](int node) { return world.LeafOf(node); })) << "seed " << seed;
  }
}

TEST(MeasuredGroups, FindsThemFromSamplesAndOneMoreTournament) {
  for (uint32_t seed = 1; seed <= 5; ++seed) {
    World world(512, 32, 512, seed);
    world.Measure(SampledRounds(512, SampledRoundsFor(512, 32), seed));
    MeasuredGroups groups = InferGroups(512, world.measured);
    world.Measure(TournamentRounds(Representatives(groups)));
    groups = InferGroups(512, world.measured);
    ASSERT_EQ(groups.levels.size(), 1u) << "seed " << seed;
    EXPECT_TRUE(IsPartition(groups, 0, [&](int node) { return world.LeafOf(node); })) << "seed " << seed;
    EXPECT_LT(world.measured.size(), 512u * 511 / 2 / 2) << "less than half of all pairs";
  }
}

TEST(MeasuredGroups, WhatIsAlikeMakesNoGroups) {
  World world(32, 64, 64, 3);
  world.Measure(TournamentRounds(32));
  const MeasuredGroups groups = InferGroups(32, world.measured);
  EXPECT_THAT(groups.levels, IsEmpty());
  EXPECT_THAT(groups.notes, ElementsAre("all measured pairs are about equally far apart: no groups are made of them"));
  EXPECT_THAT(InferGroups(4, {}).levels, IsEmpty());
}

TEST(MeasuredGroups, BandwidthDecidesWhereLatencyDoesNot) {
  std::vector<Cluster::Measurement> measured;
  for (int a = 0; a < 8; ++a) {
    for (int b = 0; b < 8; ++b) {
      if (a != b) measured.push_back({a, b, 10'000, a / 4 == b / 4 ? 12e9 : 3e9});
    }
  }
  const MeasuredGroups groups = InferGroups(8, measured);
  ASSERT_THAT(groups.levels, ElementsAre("measured-1"));
  EXPECT_EQ(groups.labels[0], groups.labels[3]);
  EXPECT_NE(groups.labels[0], groups.labels[4]);
  EXPECT_THAT(groups.notes,
              ElementsAre("2 groups: there are near pairs at 96 Gbit/s or better and far ones at 24 Gbit/s or worse"));
}

TEST(MeasuredGroups, BandsThatMakeNoGroupsAreSaid) {
  // A ring of close pairs: every node is close to two others, and yet far from the rest of its "group".
  std::vector<Cluster::Measurement> measured;
  for (int a = 0; a < 12; ++a) {
    for (int b = a + 1; b < 12; ++b) measured.push_back({a, b, b - a == 1 || b - a == 11 ? 1000 : 9000, 0});
  }
  const MeasuredGroups groups = InferGroups(12, measured);
  EXPECT_THAT(groups.levels, IsEmpty());
  EXPECT_THAT(groups.notes, ElementsAre(HasSubstr("lie inside groups of near ones: no groups are made of it")));
}

TEST(MeasuredGroups, OneStrayMeasurementMakesNoGroup) {
  World world(32, 64, 64, 3);
  world.Measure(TournamentRounds(32));
  world.measured[17].latency_ns = 900;
  EXPECT_THAT(InferGroups(32, world.measured).levels, IsEmpty());
}

}  // namespace
}  // namespace muster
