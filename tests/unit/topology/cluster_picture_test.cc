#include "launcher/topology/cluster_picture.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/topology/speed_text.h"

namespace muster {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Cluster TwoLeaves() {
  Cluster cluster;
  cluster.levels = {{"spine", 0}, {"leaf", 50e9}};
  for (int i = 1; i <= 12; ++i) {
    Cluster::Node node;
    node.name = absl::StrCat("node", i < 10 ? "0" : "", i);
    node.labels = {"s0", i <= 4 ? "l10" : "l2"};
    cluster.nodes.push_back(node);
  }
  cluster.nodes.push_back({"login", {"", ""}});
  cluster.uplinks = {{{"s0", "l10"}, 25e9}};
  return cluster;
}

TEST(ClusterPicture, ATreeOfText) {
  EXPECT_EQ(ClusterTree(TwoLeaves()),
            "spine s0        12 nodes\n"
            "  leaf l2       8 nodes, uplink 400 Gbit/s  node[05-12]\n"
            "  leaf l10      4 nodes, uplink 200 Gbit/s  node[01-04]\n"
            "without a leaf  1 node  login\n");
}

TEST(ClusterPicture, NodesWithoutANetwork) {
  Cluster cluster;
  cluster.nodes = {{"b", {}}, {"a", {}, {{"g", 0}}}};
  EXPECT_EQ(ClusterTree(cluster), "2 nodes: a,b\n");
  cluster.nodes[0].gpus = {{"g", 0}};
  EXPECT_EQ(ClusterTree(cluster), "2 nodes, 1 GPU each: a,b\n");
}

TEST(ClusterPicture, RangesAreSlurms) {
  EXPECT_EQ(RangesText({"node03", "node01", "node02", "login", "node07"}), "login,node[01-03,07]");
  EXPECT_EQ(RangesText({"n9", "n10", "n11"}), "n[9-11]");
  EXPECT_EQ(RangesText({"n09", "n10"}), "n[09-10]");
  EXPECT_EQ(RangesText({"n01", "n1"}), "n[01,1]");
  EXPECT_EQ(RangesText({"a"}), "a");
  EXPECT_EQ(RangesText({"10.0.0.1", "10.0.0.2"}), "10.0.0.[1-2]");
  EXPECT_EQ(RangesText({"a<b\n"}), "a<b\\n");
  EXPECT_THAT(RangesText({std::string(300, 'x')}), HasSubstr("xxx..."));
}

TEST(ClusterPicture, BitsAsLinksAreSold) {
  EXPECT_EQ(BitsText(50e9), "400 Gbit/s");
  EXPECT_EQ(BitsText(125e6), "1 Gbit/s");
  EXPECT_EQ(BitsText(1250), "10 kbit/s");
  EXPECT_EQ(BitsText(1.28e12), "10.2 Tbit/s");
}

TEST(ClusterPicture, ADrawingHasEveryGroupAndNodeOnceAndIsSafe) {
  Cluster cluster = TwoLeaves();
  cluster.nodes[0].name = "<script>&\"";
  const std::string svg = ClusterSvg(cluster, "a <title>");
  EXPECT_THAT(svg, HasSubstr("a &lt;title&gt;"));
  EXPECT_THAT(svg, HasSubstr("&lt;script&gt;&amp;&quot;"));
  EXPECT_THAT(svg, Not(HasSubstr("<script>")));
  EXPECT_THAT(svg, HasSubstr(">leaf l10<tspan class=\"note\" dx=\"8\">uplink 200 Gbit/s</tspan>"));
  for (size_t i = 1; i < cluster.nodes.size(); ++i) EXPECT_THAT(svg, HasSubstr(">" + cluster.nodes[i].name + "<"));
}

TEST(ClusterPicture, DevicesOfFewNodesAreDrawn) {
  Cluster cluster;
  cluster.nodes = {
      {"n", {}, {{"GPU-a", 0}, {"GPU-b", 1}}, {{"mlx5_0", 0, -1, 50e9}}, {PciDistance::kPix, PciDistance::kSys}, {0, 6, 6, 0}}};
  const std::string svg = ClusterSvg(cluster, "n");
  EXPECT_THAT(svg, HasSubstr("memory node 1"));
  EXPECT_THAT(svg, HasSubstr("PIX to mlx5_0, 6 NVLinks to 1 GPU"));
}

TEST(ClusterPicture, LargeClustersAreDrawnByCounts) {
  Cluster cluster;
  cluster.levels = {{"leaf"}};
  for (int i = 0; i < 5000; ++i) cluster.nodes.push_back({absl::StrCat("n", i), {absl::StrCat("l", i / 32)}});
  const std::string svg = ClusterSvg(cluster, "large");
  const std::string tree = ClusterTree(cluster);
  EXPECT_THAT(svg, HasSubstr("32 nodes"));
  EXPECT_THAT(svg, Not(HasSubstr(">n77<")));
  EXPECT_THAT(tree, HasSubstr("n[0-31]"));
}

}  // namespace
}  // namespace muster
