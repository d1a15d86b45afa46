#include "launcher/planner/explain.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Two racks of two leaves of two nodes of two GPUs; n0 n2 n4 n6 are in rack r1.
Cluster Small() {
  Cluster cluster;
  cluster.levels = {{.name = "rack"}, {.name = "leaf"}};
  for (int i = 0; i < 8; ++i) {
    Cluster::Node& node = cluster.nodes.emplace_back();
    node.name = absl::StrCat("n", i);
    node.labels = {i % 2 == 0 ? "r1" : "r2", i < 4 ? "l1" : "l2"};
    node.gpus.resize(2);
    node.nics = {{.name = "mlx5_0"}, {.name = "mlx5_1"}};
    node.distances = {PciDistance::kPix, PciDistance::kSys, PciDistance::kPix, PciDistance::kSys};
  }
  return cluster;
}

TEST(Explain, SaysNodeNicNeighboursGroupsAndWhatWouldBeWithoutAPlan) {
  const Cluster cluster = Small();
  const GroupTree tree(cluster);
  const Plan plan = MakePlan(cluster, tree, {});
  EXPECT_THAT(
      ExplainRank(cluster, tree, plan, 3),
      ElementsAre(
          "rank 3 is local rank 1 on node n2, in leaf l1 of rack r1; the node is number 1 of the ring's 8, counted from 0, and "
          "has ranks 2 to 3.",
          "its GPU 1 uses NIC 1 (mlx5_1): they are SYS from each other, and the nearer NICs (PIX) serve other GPUs.",
          "it receives from n0, in the same leaf, and sends to n4, in leaf l2 of rack r1.",
          "the 2 nodes of leaf l1 of rack r1 stand together, so one edge of the ring leaves the leaf (this node's) and one "
          "comes in: with 4 such groups the ring "
          "crosses 4 times, the fewest there can be; in order of host names it would cross 8.",
          "the 4 nodes of rack r1 stand together, so one edge of the ring leaves the rack and one comes in: with 2 such groups "
          "the ring crosses 2 times, the "
          "fewest there can be; in order of host names it would cross 8.",
          "the nodes of leaf l1 of rack r1: nothing but their names tells them apart, and they stand in order of these.",
          "sorted by host name it would stand between n1, in rack r2, and n3, in rack r2."));
}

TEST(Explain, SaysWhatWasMeasuredAndLinked) {
  Cluster cluster = Small();
  cluster.links = {{.from = {"r1"}, .to = {"r2"}, .bytes_per_second = 1e9}};
  cluster.measurements = {{0, 2, 1000, 1e9}};
  const GroupTree tree(cluster);
  const std::string text = absl::StrJoin(ExplainRank(cluster, tree, MakePlan(cluster, tree, {}), 0), "\n");
  EXPECT_THAT(text, HasSubstr("the nodes of leaf l1 of rack r1 stand so that the slowest measured step"));
  EXPECT_THAT(text, HasSubstr("the rack groups stand so that neighbours have a direct link"));
}

TEST(Explain, OfAClusterOfWhichNothingIsKnown) {
  Cluster cluster;
  cluster.nodes = {{.name = "a"}};
  const GroupTree alone(cluster);
  EXPECT_THAT(
      ExplainRank(cluster, alone, MakePlan(cluster, alone, {}), 0),
      ElementsAre("rank 0 is local rank 0 on node a; the node is number 0 of the ring's 1, counted from 0, and has rank 0."));
  cluster.nodes.push_back({.name = "b"});
  const GroupTree tree(cluster);
  EXPECT_THAT(ExplainRank(cluster, tree, MakePlan(cluster, tree, {}), 1), Contains("it receives from a, and sends to a."));
}

}  // namespace
}  // namespace muster
