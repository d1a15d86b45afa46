#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/fabric/generate.h"
#include "launcher/planner/compare.h"
#include "launcher/planner/plan.h"
#include "launcher/planner/rings.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

size_t At(int index) { return static_cast<size_t>(index); }

std::vector<std::string> Names(const Cluster& cluster, const std::vector<int>& nodes) {
  std::vector<std::string> names;
  for (const int node : nodes) names.push_back(cluster.nodes[At(node)].name);
  return names;
}

std::vector<std::string> PlannedNames(const Cluster& cluster, int rings = 1) {
  EXPECT_TRUE(CheckCluster(cluster).ok()) << CheckCluster(cluster);
  return Names(cluster, PlanOrder(cluster, GroupTree(cluster), rings).nodes);
}

TEST(Order, FourThousandShuffledNodesCross128LeavesAsOftenAsThereAreLeaves) {
  const Cluster cluster = FatTree({128, 32}, 4, {.gpus = 1, .nics = 1}, NodeNames::kShuffled, 1);
  const GroupTree tree(cluster);
  const Network network(cluster, tree);
  EXPECT_EQ(CountCrossings(tree, PlanOrder(cluster, tree, 1).nodes)[0].crossings, 128);
  EXPECT_EQ(CountCrossings(tree, PlanOrder(cluster, tree, 1).nodes)[0].worst, 1);
  // 4,096 edges, of which 31 in 4,095 stay within a leaf.
  EXPECT_NEAR(JudgeRandomOrders(cluster, tree, network, 1).crossings[0], 4065, 20);
}

TEST(Order, WithoutLabelsOrMeasurementsIsThatOfTheNames) {
  Cluster cluster;
  cluster.nodes = {{.name = "n10"}, {.name = "n9"}, {.name = "n1"}};
  EXPECT_THAT(PlannedNames(cluster), ElementsAre("n1", "n9", "n10"));
}

TEST(Order, NodesWithoutALabelStandTogetherBehindTheOthersOfTheirGroup) {
  Cluster cluster;
  cluster.levels = {{.name = "rack"}, {.name = "leaf"}};
  cluster.nodes = {{.name = "a", .labels = {"r1", ""}},
                   {.name = "b", .labels = {"r2", "l2"}},
                   {.name = "c", .labels = {"r1", "l1"}},
                   {.name = "d", .labels = {"", "l1"}},
                   {.name = "e", .labels = {"r1", ""}}};
  EXPECT_THAT(PlannedNames(cluster), ElementsAre("c", "a", "e", "b", "d"));
}

TEST(Order, GroupsOfADragonflyFollowTheirDirectLinks) {
  // Groups linked to those two and three on around a circle whose labels are shuffled; a cycle along links exists.
  const Cluster cluster = Dragonfly(16, 2, 2, {2, 3}, 1, {.gpus = 1, .nics = 1}, NodeNames::kShuffled, 5);
  const GroupTree tree(cluster);
  const std::vector<int> order = PlanOrder(cluster, tree, 1).nodes;
  const Network network(cluster, tree);
  int crossings = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    const int from = order[i], to = order[(i + 1) % order.size()];
    if (tree.GroupOf(from, 0) == tree.GroupOf(to, 0)) continue;
    ++crossings;
    // The router's uplink, one direct link, the other router's, and a NIC at each end.
    EXPECT_EQ(network.Between(from, 0, to, 0).links.size(), 5u);
  }
  EXPECT_EQ(crossings, 16);
}

// Six nodes: two halves that are fast inside, and one pair of nodes by which alone the halves reach each other well.
Cluster Measured() {
  Cluster cluster;
  for (const char* name : {"a", "b", "c", "d", "e", "f"}) cluster.nodes.push_back({.name = name});
  for (int i = 0; i < 6; ++i) {
    for (int j = 0; j < 6; ++j) {
      if (i == j) continue;
      const bool gate = (i == 0 && j == 3) || (i == 5 && j == 2) || (i == 3 && j == 0) || (i == 2 && j == 5);
      cluster.measurements.push_back({i, j, 1000, i / 3 == j / 3 ? 1e10 : gate ? 8e9 : 1e9});
    }
  }
  return cluster;
}

TEST(Order, FollowsWhatWasMeasuredBottleneckFirst) {
  const Cluster cluster = Measured();
  const std::vector<std::string> order = PlannedNames(cluster);
  EXPECT_THAT(order, ElementsAre("a", "b", "c", "f", "e", "d"));
}

TEST(Order, OneRingTakesTheFastDirectionsAndSeveralTheWorseOfBoth) {
  // a -> b -> c -> d -> a is fast one way round only; a - c - b - d - a is a little slower, but both ways.
  Cluster cluster;
  for (const char* name : {"a", "b", "c", "d"}) cluster.nodes.push_back({.name = name});
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      if (i == j) continue;
      double speed = j == (i + 1) % 4 ? 1e10 : 1e9;
      const std::pair<int, int> pair(std::min(i, j), std::max(i, j));
      if (pair == std::pair(0, 2) || pair == std::pair(1, 3)) speed = 5e9;
      if (pair == std::pair(1, 2) || pair == std::pair(0, 3)) speed = std::max(speed, 5e9);
      cluster.measurements.push_back({i, j, 0, speed});
    }
  }
  EXPECT_THAT(PlannedNames(cluster, 1), ElementsAre("a", "b", "c", "d"));
  EXPECT_THAT(PlannedNames(cluster, 2), ElementsAre("a", "c", "b", "d"));
}

TEST(Order, OfLabelledNodesIsNestedFirstAndMeasuredWithin) {
  Cluster cluster = Measured();
  cluster.levels = {{.name = "leaf"}};
  for (int i = 0; i < 6; ++i) cluster.nodes[At(i)].labels = {i % 2 == 0 ? "l1" : "l2"};
  const GroupTree tree(cluster);
  const RingOrder order = PlanOrder(cluster, tree, 1);
  EXPECT_EQ(CountCrossings(tree, order.nodes)[0].crossings, 2) << "labels are trusted more than measurements";
  EXPECT_EQ(order.ordered_by[1], OrderedBy::kMeasured);
}

TEST(Plan, RanksFollowTheRingNodeByNode) {
  Cluster cluster;
  cluster.levels = {{.name = "leaf"}};
  Cluster::Node node;
  node.gpus = {{.numa = 1}, {.numa = 0}};
  node.nics = {{.name = "x", .numa = 0}, {.name = "y", .numa = 1}};
  for (int i = 0; i < 4; ++i) {
    node.name = absl::StrCat("n", i);
    node.labels = {i % 2 == 0 ? "even" : "odd"};
    cluster.nodes.push_back(node);
  }
  const Plan plan = MakePlan(cluster, GroupTree(cluster), {});
  EXPECT_THAT(Names(cluster, plan.order.nodes), ElementsAre("n0", "n2", "n1", "n3"));
  ASSERT_EQ(plan.ranks.size(), 8u);
  EXPECT_EQ(cluster.nodes[At(plan.ranks[3].node)].name, "n2");
  EXPECT_EQ(plan.ranks[3].local_rank, 1);
  EXPECT_EQ(plan.ranks[3].gpu, 1);
  EXPECT_EQ(plan.ranks[3].nic, 0) << "of its own NUMA node";
  EXPECT_THAT(plan.first_rank, ElementsAre(0, 4, 2, 6));
  EXPECT_EQ(plan.rings.size(), 2u);
  EXPECT_EQ(MakePlan(cluster, GroupTree(cluster), {.ranks_per_node = 3}).ranks.size(), 12u);
}

TEST(Plan, SaysWhereNodesHaveDifferentNumbersOfNics) {
  Cluster cluster;
  cluster.nodes = {{.name = "a"}, {.name = "b"}};
  cluster.nodes[0].nics.resize(4);
  cluster.nodes[1].nics.resize(1);
  EXPECT_THAT(MakePlan(cluster, GroupTree(cluster), {}).doubts,
              ElementsAre(HasSubstr("node b has 1 NIC and others up to 4; 1 ring is planned")));
}

TEST(Plan, OnAnOversubscribedTreeIsAsMuchFasterAsTheUplinksAreNarrow) {
  const Cluster cluster = FatTree({8, 8}, 4, {.gpus = 8, .nics = 8}, NodeNames::kShuffled, 1);
  const GroupTree tree(cluster);
  const Network network(cluster, tree);
  const Plan plan = MakePlan(cluster, tree, {});
  const OrderQuality planned = JudgeRings(cluster, tree, network, plan.rings);
  EXPECT_NEAR(planned.bus_bytes_per_second, 8 * 5e10, 1) << "every NIC is full";
  // All 8 nodes of some leaf leave it: 64 edges on an uplink of 16 NICs' rate.
  EXPECT_NEAR(JudgeOrder(cluster, tree, network, HostNameOrder(cluster), 8).bus_bytes_per_second, 8 * 5e10 / 4, 1);
}

TEST(Rings, GoThroughTheNicOfTheirRail) {
  Cluster::Node node;
  EXPECT_EQ(NicOfRing(node, 0), -1);
  node.nics = {{.rail = 1}, {.rail = 0}};
  EXPECT_EQ(NicOfRing(node, 0), 1);
  EXPECT_EQ(NicOfRing(node, 1), 0);
  node.nics[0].rail = -1;
  EXPECT_EQ(NicOfRing(node, 0), 0);
}

}  // namespace
}  // namespace muster
