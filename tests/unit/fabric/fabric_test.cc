#include <limits>
#include <set>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/fabric/fair_share.h"
#include "launcher/fabric/generate.h"
#include "launcher/fabric/network.h"
#include "launcher/fabric/ring_forecast.h"

namespace muster {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;

constexpr double kInfinite = std::numeric_limits<double>::infinity();
constexpr NodeKind kOneNic = {.gpus = 1, .nics = 1, .nic_bytes_per_second = 1e9};

// Rings 0, 1, 2, ... over all nodes in the order of the cluster, through the NIC of their own number.
std::vector<ForecastRing> RingsInOrder(const Cluster& cluster, int count) {
  std::vector<ForecastRing> rings;
  for (int j = 0; j < count; ++j) {
    ForecastRing& ring = rings.emplace_back();
    for (int node = 0; node < static_cast<int>(cluster.nodes.size()); ++node) ring.nodes.push_back(node);
    ring.nics.assign(ring.nodes.size(), j);
  }
  return rings;
}

// Node i of leaf i mod leaves: no two neighbours in one leaf.
Cluster Interleaved(Cluster cluster, int leaves) {
  std::vector<Cluster::Node> nodes;
  const int size = static_cast<int>(cluster.nodes.size()) / leaves;
  for (int i = 0; i < size; ++i) {
    for (int leaf = 0; leaf < leaves; ++leaf) nodes.push_back(cluster.nodes[static_cast<size_t>(leaf * size + i)]);
  }
  cluster.nodes = std::move(nodes);
  return cluster;
}

TEST(FairRates, ThreeFlowsOnTwoLinks) {
  // Bertsekas and Gallager's example in small: the long flow and one short one halve the narrow link, the other short one has the
  // rest of the wide link.
  const std::vector<double> rates = FairRates({10, 30}, {{{{0}, {1}}}, {{{0}}}, {{{1}}}});
  EXPECT_THAT(rates, ElementsAre(5, 5, 25));
}

TEST(FairRates, SharesCountAndWhatIsNotBoundedIsInfinite) {
  EXPECT_THAT(FairRates({12}, {{{{0, 2.0}}}, {{{0}}}}), ElementsAre(4, 4));
  EXPECT_THAT(FairRates({12}, {{{{0}, {0}}}}), ElementsAre(6)) << "a link that is named twice carries twice";
  EXPECT_THAT(FairRates({kInfinite}, {{{{0}}}, {}}), ElementsAre(kInfinite, kInfinite));
  EXPECT_THAT(FairRates({}, {}), ElementsAre());
}

TEST(RingForecast, AnOversubscribedLeafIsSlowedByTheEdgesThatLeaveIt) {
  // 4 leaves of 4 nodes, uplinks of one node's rate: 4:1.
  const Cluster nested = FatTree({4, 4}, 4, kOneNic, NodeNames::kByPlace, 1);
  ASSERT_TRUE(CheckCluster(nested).ok());
  const GroupTree tree(nested);
  const Network network(nested, tree);
  const RingForecast good = ForecastAllReduce(network, RingsInOrder(nested, 1), 16e6);
  EXPECT_NEAR(good.bus_bytes_per_second, 1e9, 1);
  EXPECT_NEAR(good.seconds, 2.0 * 15 / 16 * 16e6 / 1e9, 1e-9);

  const Cluster interleaved = Interleaved(nested, 4);
  const GroupTree other_tree(interleaved);
  const Network other(interleaved, other_tree);
  const RingForecast bad = ForecastAllReduce(other, RingsInOrder(interleaved, 1), 16e6);
  EXPECT_NEAR(bad.bus_bytes_per_second, 1e9 / 4, 1) << "4 edges on an uplink of one node's rate";
  EXPECT_EQ(bad.slowest_link_edges, 4);
  EXPECT_EQ(other.LinkText(bad.slowest_link).substr(0, 18), "uplink of leaf lea");
}

TEST(RingForecast, LatencyIsThatOfTheSlowestStep) {
  Cluster cluster = FatTree({2, 2}, 1, kOneNic, NodeNames::kByPlace, 1);
  cluster.levels[0].latency_ns = 500;
  const GroupTree tree(cluster);
  const Network network(cluster, tree);
  // 2(N-1) steps of S/N bytes, each with the way up and the way down.
  EXPECT_NEAR(ForecastAllReduce(network, RingsInOrder(cluster, 1), 4000).seconds, 6 * (1e-6 + 1000 / 1e9), 1e-12);
}

TEST(RingForecast, RingsOnRailsShareNothingAndOneThatChangesRailGoesUp) {
  const NodeKind kind = {.gpus = 2, .nics = 2, .nic_bytes_per_second = 1e9};
  const Cluster cluster = RailOptimised(2, 4, 4, kind, NodeNames::kByPlace, 1);
  ASSERT_TRUE(CheckCluster(cluster).ok());
  const GroupTree tree(cluster);
  const Network network(cluster, tree);
  // Each rail's uplink carries one edge of its own ring: 4 nodes at 4:1 are one node's rate.
  EXPECT_NEAR(ForecastAllReduce(network, RingsInOrder(cluster, 2), 1e6).bus_bytes_per_second, 2e9, 1);
  EXPECT_EQ(network.Between(0, 1, 1, 1).links.size(), 2u) << "two NICs of one rail: one switch, no uplink";
  EXPECT_EQ(network.Between(0, 0, 1, 1).links.size(), 4u) << "of two rails: up and down";
}

TEST(RingForecast, UnknownBandwidthsAreNoBound) {
  Cluster cluster;
  cluster.nodes = {{.name = "a"}, {.name = "b"}};
  const GroupTree tree(cluster);
  const Network network(cluster, tree);
  const RingForecast forecast = ForecastAllReduce(network, {{.nodes = {0, 1}, .nics = {-1, -1}}}, 1e6);
  EXPECT_EQ(forecast.bus_bytes_per_second, kInfinite);
  EXPECT_EQ(forecast.slowest_link, -1);
}

TEST(Network, AGroupsOwnUplinkReplacesItsLevels) {
  Cluster cluster = FatTree({2, 2}, 1, kOneNic, NodeNames::kByPlace, 1);
  cluster.uplinks = {{.group = {"leaf2"}, .bytes_per_second = 1e8}};
  const GroupTree tree(cluster);
  const Network network(cluster, tree);
  const RingForecast forecast = ForecastAllReduce(network, RingsInOrder(cluster, 1), 1e6);
  EXPECT_NEAR(forecast.bus_bytes_per_second, 1e8, 1);
  EXPECT_EQ(network.LinkText(forecast.slowest_link), "uplink of leaf leaf2");
}

TEST(Network, DirectLinksAreTakenByTheFewestAndOnlyThen) {
  // Groups in a row a - b - c; d has no link.
  Cluster cluster;
  cluster.levels = {{.name = "group", .uplink_bytes_per_second = 1e9, .latency_ns = 50}};
  for (const char* name : {"a", "b", "c", "d"}) cluster.nodes.push_back({.name = absl::StrCat("n", name), .labels = {name}});
  cluster.links = {{.from = {"a"}, .to = {"b"}, .bytes_per_second = 1e9, .latency_ns = 7},
                   {.from = {"c"}, .to = {"b"}, .bytes_per_second = 2e9, .latency_ns = 9}};
  ASSERT_TRUE(CheckCluster(cluster).ok());
  const GroupTree tree(cluster);
  const Network network(cluster, tree);
  const Network::Route over = network.Between(0, -1, 2, -1);
  ASSERT_EQ(over.links.size(), 4u);
  EXPECT_EQ(network.LinkText(over.links[1]), "link between group a and group b");
  EXPECT_EQ(network.LinkText(over.links[2]), "link between group b and group c");
  EXPECT_EQ(over.latency_ns, 16);
  const Network::Route up = network.Between(0, -1, 3, -1);
  ASSERT_EQ(up.links.size(), 4u);
  EXPECT_EQ(network.LinkText(up.links[1]), "uplink of group a");
  EXPECT_EQ(up.latency_ns, 100);
}

TEST(Generate, ClustersAreWholeAndNamesSayNothingOfPlacesWhereShuffled) {
  const Cluster fat = FatTree({2, 4, 8}, 2, {}, NodeNames::kShuffled, 7);
  ASSERT_TRUE(CheckCluster(fat).ok()) << CheckCluster(fat);
  EXPECT_EQ(fat.nodes.size(), 64u);
  EXPECT_THAT(fat.levels[1].uplink_bytes_per_second, DoubleNear(8 * 8 * 5e10 / 2, 1));
  EXPECT_NE(fat.nodes[0].name, "node01");
  EXPECT_EQ(FatTree({2, 4, 8}, 2, {}, NodeNames::kShuffled, 7).nodes[5].name, fat.nodes[5].name);
  const Cluster dragonfly = Dragonfly(9, 4, 2, {1, 2, 4}, 1, {}, NodeNames::kShuffled, 3);
  ASSERT_TRUE(CheckCluster(dragonfly).ok()) << CheckCluster(dragonfly);
  EXPECT_EQ(dragonfly.links.size(), 27u);
  EXPECT_TRUE(CheckCluster(Dragonfly(4, 1, 1, {1, 2, 3}, 1, {}, NodeNames::kByPlace, 3)).ok());
}

}  // namespace
}  // namespace muster
