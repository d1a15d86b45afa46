#include "launcher/labels/labels.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

NodeLabels On(const std::string& node, const std::string& spine, const std::string& leaf) {
  return {node, {{"spine", spine}, {"leaf", leaf}}};
}

TEST(Labels, TheFirstSourceThatKnowsTheNodesIsTaken) {
  const LabelSet strangers{"the file", {On("x", "s0", "l0")}, {}};
  const LabelSet slurm{"Slurm", {On("a", "s0", "l0"), On("b", "s0", "l1")}, {"a note of Slurm's"}};
  const LabelSet other{"Kubernetes", {On("a", "s0", "l0"), On("b", "s0", "l1")}, {"not said"}};
  const LabelSet chosen = ChooseLabels({strangers, slurm, other}, {"b", "a"});
  EXPECT_EQ(chosen.source, "Slurm");
  EXPECT_THAT(chosen.nodes, ElementsAre(On("b", "s0", "l1"), On("a", "s0", "l0")));
  EXPECT_THAT(chosen.notes,
              ElementsAre("a note of Slurm's", "the file says of none of the nodes (b, a) where it stands, and is left out"));
}

TEST(Labels, NobodyKnowsAnything) {
  EXPECT_EQ(ChooseLabels({}, {"a"}).source, "");
  EXPECT_EQ(ChooseLabels({{"Slurm", {{"a", {}}}, {}}}, {"a"}).source, "");
  EXPECT_THAT(ChooseLabels({}, {"a"}).nodes, IsEmpty());
}

TEST(Labels, NodesThatTheSourceLacksHaveAnEmptyPath) {
  const LabelSet slurm{"Slurm", {On("a", "s0", "l0")}, {}};
  const LabelSet chosen = ChooseLabels({slurm}, {"c", "a", "b"});
  ASSERT_THAT(chosen.nodes, SizeIs(3));
  EXPECT_THAT(chosen.nodes[0].path, IsEmpty());
  EXPECT_THAT(chosen.nodes[1].path, SizeIs(2));
}

TEST(Labels, FindsNodesWithAndWithoutTheirDomain) {
  const LabelSet set{"x", {On("a.one.example", "s", "l"), On("b", "s", "l"), On("c.one", "s", "l"), On("c.two", "s", "m")}, {}};
  const LabelIndex index(set);
  ASSERT_NE(index.Find("a"), nullptr);
  EXPECT_EQ(index.Find("a")->node, "a.one.example");
  ASSERT_NE(index.Find("b.cluster"), nullptr);
  EXPECT_EQ(index.Find("b.cluster")->node, "b");
  EXPECT_EQ(index.Find("c"), nullptr) << "two nodes have this short name";
  ASSERT_NE(index.Find("c.two"), nullptr);
  EXPECT_EQ(index.Find("c.two")->path[1].value, "m");
  EXPECT_EQ(index.Find("d"), nullptr);
}

TEST(Labels, APodStandsWhereItsNodeStands) {
  const LabelSet set{"x", {On("machine-1", "s", "l"), On("machine-2.example", "s", "m")}, {}};
  const LabelIndex index(set);
  ASSERT_NE(index.Find("words-workers-0-abcde@machine-1"), nullptr);
  EXPECT_EQ(index.Find("words-workers-0-abcde@machine-1")->node, "machine-1");
  ASSERT_NE(index.Find("words-workers-1-abcde@machine-2"), nullptr);
  EXPECT_EQ(index.Find("words-workers-1-abcde@machine-2")->path[1].value, "m");
  EXPECT_EQ(index.Find("machine-1@elsewhere"), nullptr);
  EXPECT_EQ(index.Find("pod@"), nullptr);
}

TEST(Labels, AContradictionNamesBothSidesAndWhatWasTaken) {
  const LabelSet file{"topology.conf", {On("a", "s", "l0"), On("b", "s", "l0"), On("c", "s", "l1")}, {}};
  const LabelSet zones{"nodes.json", {{"a", {{"rack", "r0"}}}, {"b", {{"rack", "r1"}}}, {"c", {{"rack", "r0"}}}}, {}};
  const LabelSet chosen = ChooseLabels({file, zones}, {"a", "b", "c"});
  EXPECT_EQ(chosen.source, "topology.conf");
  EXPECT_THAT(chosen.notes,
              ElementsAre("topology.conf puts a and b together in leaf l0 without c, nodes.json puts a and c together in "
                          "rack r0 without b; topology.conf is taken"));
}

TEST(Labels, WiderAndNarrowerGroupsDoNotContradict) {
  const LabelSet file{"file", {On("a", "s", "l0"), On("b", "s", "l0"), On("c", "s", "l1"), On("d", "t", "l2")}, {}};
  const LabelSet wider{
      "zones", {{"a", {{"zone", "1"}}}, {"b", {{"zone", "1"}}}, {"c", {{"zone", "1"}}}, {"d", {{"zone", "2"}}}}, {}};
  const LabelSet narrower{"nvlink", {{"a", {{"n", "1"}}}, {"b", {{"n", "2"}}}, {"c", {{"n", "3"}}}, {"d", {{"n", "4"}}}}, {}};
  EXPECT_EQ(Contradiction(file, wider, {"a", "b", "c", "d"}), "");
  EXPECT_EQ(Contradiction(file, narrower, {"a", "b", "c", "d"}), "");
  EXPECT_EQ(Contradiction(narrower, file, {"a", "b", "c", "d"}), "");
}

TEST(Labels, BecomeACluster) {
  const LabelSet set{
      "x",
      {{"a", {{"leaf", "l0"}}}, On("b", "s0", "l1"), {"c", {{"core", "k"}, {"spine", "s0"}, {"leaf", "l1"}}}, {"d", {}}},
      {}};
  const auto cluster = ClusterOfLabels(set);
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_TRUE(CheckCluster(*cluster).ok()) << CheckCluster(*cluster);
  std::vector<std::string> levels, nodes;
  for (const auto& level : cluster->levels) levels.push_back(level.name);
  for (const auto& node : cluster->nodes) nodes.push_back(absl::StrCat(node.name, "=", absl::StrJoin(node.labels, "/")));
  EXPECT_THAT(levels, ElementsAre("core", "spine", "leaf"));
  EXPECT_THAT(nodes, ElementsAre("a=//l0", "b=/s0/l1", "c=k/s0/l1", "d=//"));
}

TEST(Labels, LevelsInDifferentOrdersAreRefused) {
  const LabelSet set{"x", {{"a", {{"rack", "1"}, {"row", "2"}}}, {"b", {{"row", "2"}, {"rack", "1"}}}}, {}};
  EXPECT_THAT(ClusterOfLabels(set).status().message(),
              HasSubstr("x: node b is in row 2, rack 1, and elsewhere rack is wider than the level before it"));
}

}  // namespace
}  // namespace muster
