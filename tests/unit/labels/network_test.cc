#include "launcher/labels/network.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kCluster[] = R"(levels: [spine, leaf]
nodes:
  - {name: "a[1-2]", labels: {spine: s, leaf: l1}, gpus: 8}
  - {name: b, labels: {spine: s, leaf: l2}}
  - far
uplinks: [{group: {spine: s, leaf: l1}, speed: 1GB/s}, {group: {spine: s, leaf: l2}, speed: 2GB/s}]
links: [{from: {spine: s, leaf: l1}, to: {spine: s, leaf: l2}, speed: 3GB/s}]
measurements: [{from: a1, to: b, latency: 5us}, {from: a1, to: a2, latency: 2us}]
)";

absl::StatusOr<KnownNetwork> Known(std::vector<std::pair<std::string, std::string>> files, std::vector<std::string> nodes) {
  std::vector<NetworkFile> read;
  for (const auto& [name, text] : files) read.push_back({*ParseLabelFile(name), text});
  auto sources = ReadNetworkFiles(read, nullptr, "");
  if (!sources.ok()) return sources.status();
  return KnowNetwork(*sources, std::move(nodes));
}
std::string Nodes(const Cluster& cluster) {
  return absl::StrJoin(cluster.nodes, " ", [](std::string* out, const Cluster::Node& node) {
    absl::StrAppend(out, node.name, "=", absl::StrJoin(node.labels, "/"));
  });
}

TEST(Network, AClusterFileKeepsAllThatItKnowsOfTheNodes) {
  const auto network = Known({{"c.yaml", kCluster}}, {"b.example", "a1"});
  ASSERT_TRUE(network.ok()) << network.status();
  EXPECT_EQ(network->source, "c.yaml");
  EXPECT_TRUE(network->has_labels());
  EXPECT_EQ(Nodes(network->cluster), "b.example=s/l2 a1=s/l1");
  EXPECT_EQ(network->cluster.nodes[1].gpus.size(), 8u);
  EXPECT_EQ(network->cluster.uplinks.size(), 2u);
  EXPECT_EQ(network->cluster.links.size(), 1u);
  ASSERT_EQ(network->cluster.measurements.size(), 1u) << "a2 is no node of the job";
  EXPECT_EQ(network->cluster.measurements[0].from, 1);
  EXPECT_EQ(network->cluster.measurements[0].to, 0);
  EXPECT_TRUE(CheckCluster(network->cluster).ok()) << CheckCluster(network->cluster);
}

TEST(Network, WithoutNodesAllThatTheFirstSourceKnows) {
  const auto network = Known({{"t.conf", "SwitchName=s0 Nodes=x,y"}, {"c.yaml", kCluster}}, {});
  ASSERT_TRUE(network.ok());
  EXPECT_EQ(Nodes(network->cluster), "x=s0 y=s0");
  EXPECT_EQ(network->source, "t.conf");
}

TEST(Network, ASourceThatKnowsNobodyIsPassedOverAndSaid) {
  const auto network = Known({{"t.conf", "SwitchName=s0 Nodes=x,y"}, {"c.yaml", kCluster}}, {"a1", "b"});
  ASSERT_TRUE(network.ok());
  EXPECT_EQ(network->source, "c.yaml");
  EXPECT_THAT(network->notes, ElementsAre("t.conf says of none of the nodes (a1, b) where it stands, and is left out"));
}

TEST(Network, NobodySaysAnything) {
  const auto network = Known({}, {"a", "b"});
  ASSERT_TRUE(network.ok());
  EXPECT_FALSE(network->has_labels());
  EXPECT_EQ(network->source, "");
  EXPECT_EQ(Nodes(network->cluster), "a= b=");
  const auto none = Known({{"n.json", R"({"a": {"other": "x"}})"}}, {"a"});
  ASSERT_TRUE(none.ok());
  EXPECT_FALSE(none->has_labels());
  EXPECT_THAT(none->notes, ElementsAre("n.json has none of the labels that say where nodes stand"));
}

TEST(Network, MeasurementsAloneAreKept) {
  const auto network = Known({{"c.yaml", "nodes: [a, b]\nmeasurements: [{from: a, to: b, latency: 1us}]"}}, {"b", "a"});
  ASSERT_TRUE(network.ok());
  EXPECT_EQ(network->source, "c.yaml");
  EXPECT_FALSE(network->has_labels());
  EXPECT_EQ(network->cluster.measurements.size(), 1u);
}

TEST(Network, DoubtsAreSaidWithTheirSource) {
  const auto network = Known({{"c.yaml", kCluster}}, {"a1", "b", "far"});
  ASSERT_TRUE(network.ok());
  EXPECT_EQ(Nodes(network->cluster), "a1=s/l1 b=s/l2 far=/");
  EXPECT_THAT(network->notes, Contains(HasSubstr("c.yaml: 1 node, such as far, has no spine")));
}

TEST(Network, ErrorsAreThoseOfTheReader) {
  EXPECT_THAT(Known({{"c.yaml", "nodes: x"}}, {"a"}).status().message(), HasSubstr("c.yaml:1:8: nodes: is a list"));
  EXPECT_THAT(Known({{"t.conf", "SwitchName=a Switches=a"}}, {"a"}).status().message(), HasSubstr("hangs below itself"));
}

}  // namespace
}  // namespace muster
