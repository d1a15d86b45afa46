#include "launcher/topology/cluster.h"

#include <functional>
#include <limits>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

// Two racks of two leaves of two nodes, with whatever can be known.
Cluster Whole() {
  Cluster cluster;
  cluster.levels = {{.name = "rack", .uplink_bytes_per_second = 4e10, .latency_ns = 500}, {.name = "leaf"}};
  for (int i = 0; i < 8; ++i) {
    Cluster::Node node;
    node.name = absl::StrCat("n", i);
    node.labels = {absl::StrCat("r", i / 4), absl::StrCat("l", i / 2)};
    node.gpus = {{.name = "GPU-0", .numa = 0}, {.name = "GPU-1", .numa = 1}};
    node.nics = {{.name = "mlx5_0", .numa = 0, .rail = 0, .bytes_per_second = 5e10}};
    node.distances = {PciDistance::kPix, PciDistance::kSys};
    node.nvlinks = {0, 18, 18, 0};
    cluster.nodes.push_back(node);
  }
  cluster.uplinks = {{.group = {"r0", "l1"}, .bytes_per_second = 1e10}};
  cluster.links = {{.from = {"r0"}, .to = {"r1"}, .bytes_per_second = 1e10, .latency_ns = 900}};
  cluster.measurements = {{.from = 0, .to = 1, .latency_ns = 1500, .bytes_per_second = 4e10}, {.from = 1, .to = 0}};
  return cluster;
}

std::string ErrorAfter(const std::function<void(Cluster*)>& damage) {
  Cluster cluster = Whole();
  damage(&cluster);
  return CheckCluster(cluster).ToString();
}

TEST(Cluster, TakesWhatIsWhole) {
  EXPECT_TRUE(CheckCluster(Whole()).ok()) << CheckCluster(Whole());
  Cluster bare;
  bare.nodes = {{.name = "a"}};
  EXPECT_TRUE(CheckCluster(bare).ok()) << "names are all that must be known";
}

TEST(Cluster, NamesWhatIsWrong) {
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->nodes.clear(); }), HasSubstr("the cluster has no nodes"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->nodes[3].name = ""; }), HasSubstr("node number 3: has no name"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->nodes[3].name = "n1"; }), HasSubstr("node n1: there are two"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->nodes[3].labels.pop_back(); }),
              HasSubstr("node n3: has 1 labels for 2 levels (rack, leaf)"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->levels[1].name = "rack"; }), HasSubstr("level rack: there are two"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->levels[1].name = ""; }), HasSubstr("level 1, counted from the outermost"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->levels.resize(9, {.name = "x"}); }),
              HasSubstr("9 levels; a cluster has 8 at most"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->levels[0].uplink_bytes_per_second = std::numeric_limits<double>::quiet_NaN(); }),
              HasSubstr("level rack: a bandwidth of nan bytes/s"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->nodes[2].nics[0].bytes_per_second = -1; }),
              HasSubstr("node n2: NIC 0 mlx5_0: a bandwidth of -1 bytes/s"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->nodes[2].nics[0].rail = -2; }), HasSubstr("node n2: NIC 0 mlx5_0 on rail -2"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->nodes[2].gpus[1].numa = -2; }), HasSubstr("node n2: GPU 1 in NUMA node -2"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->nodes[2].distances.pop_back(); }),
              HasSubstr("node n2: 1 distances for 2 GPUs and 1 NICs"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->nodes[2].nvlinks.pop_back(); }), HasSubstr("node n2: 3 counts of NVLinks"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) {
                c->uplinks[0].group = {"r0", "l9"};
              }),
              HasSubstr("an uplink: no node is in the group rack r0, leaf l9"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->uplinks[0].group = {}; }), HasSubstr("an uplink: names a group by 0 labels"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->uplinks.push_back(c->uplinks[0]); }),
              HasSubstr("the uplink of rack r0, leaf l1: said twice"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->uplinks[0].bytes_per_second = 0; }), HasSubstr("has no bandwidth"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->links[0].to = {"r0"}; }), HasSubstr("two groups of one level"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) {
                c->links[0] = {.from = {"r0", "l0"}, .to = {"r1", "l2"}, .bytes_per_second = 1};
              }),
              HasSubstr("the link between rack r0, leaf l0 and rack r1, leaf l2: it joins two groups"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->links.push_back({.from = {"r1"}, .to = {"r0"}, .bytes_per_second = 1}); }),
              HasSubstr("the link between rack r1 and rack r0: said twice"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->measurements[0].to = 8; }),
              HasSubstr("from node number 0 to 8: there are 8 nodes"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->measurements[0].to = 0; }), HasSubstr("from node n0 to itself"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->measurements.push_back(c->measurements[0]); }),
              HasSubstr("the measurement from node n0 to n1: said twice"));
  EXPECT_THAT(ErrorAfter([](Cluster* c) { c->measurements[0].latency_ns = -5; }), HasSubstr("n0 to n1: a latency of -5 ns"));
}

TEST(Cluster, GroupsAreSaidWithTheirLevels) {
  EXPECT_EQ(GroupText(Whole(), {"r0", "l1"}), "rack r0, leaf l1");
  EXPECT_EQ(GroupText(Whole(), {"", "l1"}), "leaf l1");
}

}  // namespace
}  // namespace muster
