#include "launcher/topology/group_tree.h"

#include <algorithm>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/topology/natural_order.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Levels rack and leaf; nodes as {name, rack, leaf}.
Cluster Of(const std::vector<std::vector<std::string>>& nodes) {
  Cluster cluster;
  cluster.levels = {{.name = "rack"}, {.name = "leaf"}};
  for (const std::vector<std::string>& node : nodes) cluster.nodes.push_back({.name = node[0], .labels = {node[1], node[2]}});
  return cluster;
}

std::vector<std::string> Names(const Cluster& cluster, const std::vector<int>& nodes) {
  std::vector<std::string> names;
  for (const int node : nodes) names.push_back(cluster.nodes[static_cast<size_t>(node)].name);
  return names;
}

TEST(NaturalOrder, CountsAsAPersonDoes) {
  std::vector<std::string> names = {"n10", "n2", "m3", "n1", "n", "n02", "n1a", "n1-10", "n1-9", "", "n99999999999999999999"};
  std::sort(names.begin(), names.end(), NaturalLess);
  EXPECT_THAT(names, ElementsAre("", "m3", "n", "n1", "n1-9", "n1-10", "n1a", "n02", "n2", "n10", "n99999999999999999999"));
}

TEST(GroupTree, OrdersNodesGroupByGroup) {
  const Cluster cluster = Of({{"d", "r10", "l1"}, {"n10", "r2", "l2"}, {"n9", "r2", "l2"}, {"a", "r2", "l1"}, {"c", "r2", ""}});
  const GroupTree tree(cluster);
  EXPECT_THAT(Names(cluster, tree.natural_order()), ElementsAre("a", "n9", "n10", "c", "d"));
  EXPECT_EQ(tree.GroupsOn(0), 2);
  EXPECT_EQ(tree.GroupsOn(1), 4) << "l1 of r2, l2, what is not known of r2, l1 of r10";
  EXPECT_EQ(tree.SplitLevel(0, 3), 0) << "two leaves l1 in two racks are two leaves";
  EXPECT_EQ(tree.SplitLevel(1, 3), 1);
  EXPECT_EQ(tree.SplitLevel(1, 2), 2);
  EXPECT_EQ(tree.SplitLevel(4, 4), 2);
  const int leaf = tree.Find({"r2", "l2"});
  ASSERT_GE(leaf, 0);
  EXPECT_EQ(tree.groups()[static_cast<size_t>(leaf)].size, 2);
  EXPECT_THAT(tree.Labels(leaf), ElementsAre("r2", "l2"));
  EXPECT_EQ(tree.GroupOf(1, 1), leaf);
  EXPECT_EQ(tree.GroupOf(1, -1), 0);
  EXPECT_EQ(tree.Find({"r2", "l3"}), -1);
  for (int place = 0; place < tree.nodes(); ++place) {
    EXPECT_EQ(tree.NaturalPlace(tree.natural_order()[static_cast<size_t>(place)]), place);
  }
}

TEST(GroupTree, TakesAClusterWithoutLevels) {
  Cluster cluster;
  cluster.nodes = {{.name = "b"}, {.name = "a"}};
  const GroupTree tree(cluster);
  EXPECT_THAT(Names(cluster, tree.natural_order()), ElementsAre("a", "b"));
  ASSERT_THAT(tree.groups(), SizeIs(1));
  EXPECT_THAT(tree.groups()[0].nodes, SizeIs(2));
  EXPECT_THAT(LabelDoubts(cluster, tree), IsEmpty());
}

TEST(GroupTree, SaysWhatIsDoubtful) {
  const Cluster unknown = Of({{"a", "r1", "l1"}, {"b", "r1", ""}, {"c", "r1", "l3"}, {"d", "r1", "l4"}});
  EXPECT_THAT(LabelDoubts(unknown, GroupTree(unknown)),
              ElementsAre("1 node of rack r1, such as b, has no leaf; taken for one leaf of its own"));
  const Cluster none = Of({{"a", "r1", ""}, {"b", "r1", ""}});
  EXPECT_THAT(LabelDoubts(none, GroupTree(none)), ElementsAre("no node has a leaf; nothing is known on that level"));
  const Cluster twice = Of({{"a", "r1", "l1"}, {"b", "r1", "l2"}, {"c", "r2", "l2"}, {"d", "r2", "l4"}, {"e", "r2", "l5"}});
  EXPECT_THAT(LabelDoubts(twice, GroupTree(twice)),
              ElementsAre("leaf l2 lies in rack r1 and in rack r2; taken for two leaf groups of the same name"));
  const Cluster counted = Of({{"a", "r1", "1"}, {"b", "r1", "2"}, {"c", "r2", "1"}, {"d", "r2", "2"}});
  EXPECT_THAT(LabelDoubts(counted, GroupTree(counted)), IsEmpty()) << "leaves that every rack counts anew";
}

}  // namespace
}  // namespace muster
