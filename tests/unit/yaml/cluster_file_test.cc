#include "launcher/yaml/cluster_file.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ErrorOf(absl::string_view text) {
  const auto cluster = ParseClusterFile("c.yaml", text);
  return cluster.ok() ? "" : std::string(cluster.status().message());
}

TEST(ClusterFile, ReadsAllThatItCanSay) {
  const auto cluster = ParseClusterFile("c.yaml", R"(# a cluster
levels:
  - {name: spine, uplink: 3.2Tbit/s, latency: 2us}
  - {name: leaf, uplink: 400 Gbit/s, per_rail: true}
nodes:
  - name: node[01-02]
    labels: {spine: s0, leaf: l0}
    gpus: [{name: GPU-a, numa: 0}, {name: GPU-b, numa: 1}]
    nics: [{name: mlx5_0, numa: 0, rail: 0, speed: 400Gbit/s}]
    distances: [[PIX], [SYS]]
    nvlinks: [[0, 18], [18, 0]]
  - {name: node03, labels: {spine: s0, leaf: l1}, gpus: 8, nics: 2}
  - login
uplinks: [{group: {spine: s0, leaf: l1}, speed: 25GB/s}]
links: [{from: {spine: s0, leaf: l0}, to: {spine: s0, leaf: l1}, speed: 100Gbit/s, latency: 500ns}]
measurements: [{from: node01, to: login, latency: 9us, speed: 90Gbit/s}]
)");
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  ASSERT_EQ(cluster->levels.size(), 2u);
  EXPECT_EQ(cluster->levels[0].uplink_bytes_per_second, 4e11);
  EXPECT_EQ(cluster->levels[0].latency_ns, 2000);
  EXPECT_TRUE(cluster->levels[1].per_rail);
  ASSERT_EQ(cluster->nodes.size(), 4u);
  EXPECT_EQ(cluster->nodes[1].name, "node02");
  EXPECT_THAT(cluster->nodes[1].labels, ElementsAre("s0", "l0"));
  EXPECT_EQ(cluster->nodes[1].gpus[1].numa, 1);
  EXPECT_EQ(cluster->nodes[1].nics[0].bytes_per_second, 50e9);
  EXPECT_THAT(cluster->nodes[1].distances, ElementsAre(PciDistance::kPix, PciDistance::kSys));
  EXPECT_THAT(cluster->nodes[1].nvlinks, ElementsAre(0, 18, 18, 0));
  EXPECT_EQ(cluster->nodes[2].gpus.size(), 8u);
  EXPECT_EQ(cluster->nodes[3].name, "login");
  EXPECT_THAT(cluster->nodes[3].labels, ElementsAre("", ""));
  EXPECT_EQ(cluster->uplinks[0].bytes_per_second, 25e9);
  EXPECT_EQ(cluster->links[0].latency_ns, 500);
  EXPECT_EQ(cluster->measurements[0].to, 3);
  EXPECT_EQ(cluster->measurements[0].latency_ns, 9000);
}

TEST(ClusterFile, TheLeastAndJson) {
  EXPECT_EQ(ErrorOf("nodes: [a, b]"), "");
  EXPECT_EQ(ErrorOf(R"({"levels": ["leaf"], "nodes": [{"name": "a", "labels": {"leaf": "l"}}]})"), "");
}

TEST(ClusterFile, NamesPlaceAndRemedyInErrors) {
  EXPECT_EQ(ErrorOf("levels: [leaf]\nnodes: [{name: a, labels: {laef: x}}]"),
            "c.yaml:2:28: nodes[0].labels.laef: there is no such level; did you mean leaf?");
  EXPECT_EQ(ErrorOf("nodes: [{name: a, labels: {leaf: x}}]"),
            "c.yaml:1:28: nodes[0].labels.leaf: there is no such level; name it under levels:");
  EXPECT_EQ(ErrorOf("node: [a]"),
            "c.yaml:1:1: node: there is no such field; did you mean nodes?\n"
            "c.yaml:1:1: there are no nodes; write nodes: [{name: node-a}]");
  EXPECT_THAT(ErrorOf(""), HasSubstr("c.yaml:1:1: the file is a section with levels, nodes"));
  EXPECT_THAT(ErrorOf("nodes: a"), HasSubstr("nodes: is a list"));
  EXPECT_EQ(ErrorOf("nodes: [a, a]"), "c.yaml:1:12: nodes[1]: node a is named twice; leave one out");
  EXPECT_THAT(ErrorOf("nodes: ['a[1-']"), HasSubstr("nodes[0]: name \"a[1-\": there is a '[' without its ']'"));
  EXPECT_THAT(ErrorOf("nodes: ['a:2']"), HasSubstr("is no name of a node"));
  EXPECT_THAT(ErrorOf("levels: [a, a]\nnodes: [b]"), HasSubstr("levels[1]: there are two levels a"));
  EXPECT_THAT(ErrorOf("levels: [{name: a, uplink: fast}]\nnodes: [b]"),
              HasSubstr("levels[0].uplink: is a speed with its unit, such as 400Gbit/s or 50GB/s, not \"fast\""));
  EXPECT_THAT(ErrorOf("levels: [{name: a, latency: 2}]\nnodes: [b]"), HasSubstr("is a time with its unit, such as 2us"));
  EXPECT_THAT(ErrorOf("nodes: [{name: a, gpus: many}]"),
              HasSubstr("nodes[0].gpus: is a whole number from 0 to 256, not \"many\""));
  EXPECT_THAT(ErrorOf("nodes: [{name: a, gpus: 2, nvlinks: [[0]]}]"),
              HasSubstr("nodes[0].nvlinks: is a list of 2 lists of 2: a row for each GPU"));
  EXPECT_THAT(ErrorOf("nodes: [{name: a, gpus: 1, nics: 1, distances: [[NEAR]]}]"),
              HasSubstr("is PIX, PXB, PHB, NODE, SYS or ?"));
  EXPECT_THAT(ErrorOf("nodes: [a]\nmeasurements: [{from: a, to: b}]"), HasSubstr("measurements[0].to: there is no node b"));
  EXPECT_THAT(ErrorOf("levels: [l]\nnodes: [{name: a, labels: {l: x}}]\nuplinks: [{group: {l: y}, speed: 1GB/s}]"),
              HasSubstr("c.yaml: an uplink: no node is in the group l y"));
  EXPECT_THAT(ErrorOf("levels: [l]\nnodes: [a]\nuplinks: [{speed: 1GB/s}]"),
              HasSubstr("uplinks[0]: lacks group: {LEVEL: LABEL}"));
  EXPECT_THAT(ErrorOf("nodes: [&x a]"), HasSubstr("anchors (&name) are not used here"));
  std::string many = "nodes:\n";
  for (int i = 0; i < 50; ++i) absl::StrAppend(&many, "  - {name: n", i, ", gpus: x}\n");
  EXPECT_THAT(ErrorOf(many), HasSubstr("c.yaml: and 31 more"));
}

TEST(ClusterFile, FiveThousandNodesAreRead) {
  std::string text = "levels: [spine, leaf]\nnodes:\n";
  for (int i = 0; i < 5000; ++i)
    absl::StrAppend(&text, "  - {name: n", i, ", labels: {spine: s", i / 512, ", leaf: l", i / 32, "}, gpus: 8, nics: 8}\n");
  const auto cluster = ParseClusterFile("c.yaml", text);
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->nodes.size(), 5000u);
}

TEST(Speed, HasUnits) {
  EXPECT_EQ(*ParseSpeed("400Gbit/s"), 50e9);
  EXPECT_EQ(*ParseSpeed("50 GB/s"), 50e9);
  EXPECT_EQ(*ParseSpeed("1.6Tbit/s"), 2e11);
  EXPECT_EQ(*ParseSpeed("125000B/s"), 125e3);
  for (const char* wrong : {"", "400", "fast", "-1GB/s", "0GB/s", "1e3GB/s", "GB/s", "99999TB/s"})
    EXPECT_FALSE(ParseSpeed(wrong).ok()) << wrong;
}

TEST(ClusterFile, DealsLabelsWithRangesOutInEqualShares) {
  const auto cluster = ParseClusterFile("c.yaml", R"(levels: [block, leaf]
nodes: [{name: "n[01-12]", labels: {block: "b[1-2]", leaf: "l[1-6]"}}, {name: x, labels: {block: b3}}]
)");
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  ASSERT_EQ(cluster->nodes.size(), 13u);
  EXPECT_THAT(cluster->nodes[0].labels, ElementsAre("b1", "l1"));
  EXPECT_THAT(cluster->nodes[1].labels, ElementsAre("b1", "l1"));
  EXPECT_THAT(cluster->nodes[5].labels, ElementsAre("b1", "l3"));
  EXPECT_THAT(cluster->nodes[6].labels, ElementsAre("b2", "l4"));
  EXPECT_THAT(cluster->nodes[11].labels, ElementsAre("b2", "l6"));
  EXPECT_EQ(ErrorOf("levels: [leaf]\nnodes: [{name: \"n[1-5]\", labels: {leaf: \"l[1-2]\"}}]"),
            "c.yaml:2:9: nodes[0].labels.leaf: 5 nodes cannot be dealt out evenly to 2 labels; write an entry for each share");
  EXPECT_THAT(ErrorOf("levels: [leaf]\nnodes: [{name: n, labels: {leaf: \"l[1-\"}}]"),
              HasSubstr("c.yaml:2:9: nodes[0].labels.leaf: \"l[1-\": "));
}

TEST(ClusterFile, TakesRangesInLinksAndMeasurementsForEachWithEach) {
  const auto cluster = ParseClusterFile("c.yaml", R"(levels: [group]
nodes: [{name: "n[1-4]", labels: {group: "g[1-4]"}}]
links: [{from: {group: "g[1-4]"}, to: {group: "g[1-4]"}, speed: 1GB/s}]
measurements: [{from: "n[1-2]", to: "n[1-4]", speed: 1GB/s}]
)");
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->links.size(), 6u);
  EXPECT_EQ(cluster->measurements.size(), 6u);
  EXPECT_THAT(ErrorOf("nodes: [{name: \"n[1-4]\"}]\nmeasurements: [{from: n1, to: \"n[4-5]\", speed: 1GB/s}]"),
              HasSubstr("c.yaml:2:31: measurements[0].to: there is no node n5"));
  EXPECT_THAT(ErrorOf("nodes: [n1]\nmeasurements: [{from: n1, to: n1, speed: 1GB/s}]"), HasSubstr("from node n1 to itself"));
}

}  // namespace
}  // namespace muster
