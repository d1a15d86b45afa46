#include "launcher/labels/slurm_labels.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

// "a: spine s0, leaf l0" a line.
std::string Text(const absl::StatusOr<LabelSet>& set) {
  if (!set.ok()) return std::string(set.status().message());
  return absl::StrJoin(set->nodes, "\n", [](std::string* out, const NodeLabels& node) {
    absl::StrAppend(out, node.node, ": ", PathText(node.path));
  });
}
std::string Conf(absl::string_view text) { return Text(ReadSlurmTopologyConf("topology.conf", text)); }
std::string Yaml(absl::string_view text, const std::string& name = "") {
  return Text(ReadSlurmTopologyYaml("topology.yaml", text, name));
}
std::vector<std::string> Notes(const absl::StatusOr<LabelSet>& set) {
  return set.ok() ? set->notes : std::vector<std::string>{std::string(set.status().message())};
}
std::string Address(absl::string_view address, absl::string_view pattern) {
  const auto labels = ReadSlurmAddress(address, pattern);
  return labels.ok() ? absl::StrCat(labels->node, ": ", PathText(labels->path)) : std::string(labels.status().message());
}

TEST(SlurmAddress, ReadsWhatSlurmWrites) {
  EXPECT_EQ(Address("root_switch.CELL1.iswi1r4s0c1l1.belenos386", "switch.switch.switch.node"),
            "belenos386: tier-2 root_switch, spine CELL1, leaf iswi1r4s0c1l1");
  EXPECT_EQ(Address("tc1", "node"), "tc1: nowhere") << "no topology plugin";
  EXPECT_EQ(Address("opasw[06,14-15,07,11].opasw13.cn-0256", "switch.switch.node"),
            "cn-0256: spine opasw[06,14-15,07,11], leaf opasw13");
  EXPECT_EQ(Address("s0.s[1.2].n1", "switch.switch.node"), "n1: spine s0, leaf s[1.2]")
      << "a point in brackets separates nothing";
  EXPECT_EQ(Address("b7.node12", "block.node"), "node12: block b7");
  EXPECT_EQ(Address("cube:0:1:2.node5", "torus:x:y:z.node"), "node5: torus cube, x 0, y 1, z 2");
  EXPECT_EQ(Address("s0..node1", "switch.switch.node"), "node1: spine s0") << "no switch at one level";
  EXPECT_EQ(Address("s1.node1.cluster.example", "switch.node"), "node1.cluster.example: leaf s1");
}

TEST(SlurmAddress, WhatDoesNotFitIsNamed) {
  EXPECT_EQ(Address("s0.node1", "switch.switch.node"),
            "SLURM_TOPOLOGY_ADDR=s0.node1 with SLURM_TOPOLOGY_ADDR_PATTERN=switch.switch.node, which Slurm has set, cannot be "
            "read: the "
            "address has 2 parts and the pattern 3; the node counts as one whose place is not known");
  EXPECT_THAT(Address("s0.node1", "switch.switch"), HasSubstr("the pattern does not end in \"node\""));
  EXPECT_THAT(Address("s0.node1", ""), HasSubstr("the pattern does not end"));
  EXPECT_THAT(Address("s0.", "switch.node"), HasSubstr("the address ends in no node's name"));
  EXPECT_THAT(Address("", "node"), HasSubstr("the address ends in no node's name"));
  EXPECT_THAT(Address("s 0.n", "switch.node"), HasSubstr("blanks"));
  EXPECT_THAT(Address("t:1.n", "torus:x:y:z.node"), HasSubstr("\"t:1\" is no torus:x:y:z"));
  EXPECT_THAT(Address(std::string(500, 'x'), "nodes"), HasSubstr("xxx..."));
}

TEST(TopologyConf, ReadsTheManualsExample) {
  const char* text = R"(
###
# Slurm's network topology configuration file
###
SwitchName=s0 Nodes=dev[0-1]
switchname=s1 NODES=dev[2-3] LinkSpeed=100   # keys in any case
SwitchName=s3 Switches=s[0-1]
)";
  EXPECT_EQ(Conf(text),
            "dev0: spine s3, leaf s0\n"
            "dev1: spine s3, leaf s0\n"
            "dev2: spine s3, leaf s1\n"
            "dev3: spine s3, leaf s1");
  EXPECT_THAT(Notes(ReadSlurmTopologyConf("t", text)), IsEmpty());
}

TEST(TopologyConf, ReadsWhatScontrolShows) {
  EXPECT_EQ(Conf("SwitchName=s0 Level=0 LinkSpeed=1 Nodes=a,b \nSwitchName=s1 Level=0 LinkSpeed=1 Nodes=c\n"
                 "SwitchName=top Level=1 LinkSpeed=1 Nodes=a,b,c Switches=s[0-1] \n"),
            "a: spine top, leaf s0\nb: spine top, leaf s0\nc: spine top, leaf s1");
}

TEST(TopologyConf, ReadsBlocksAndRunsOfThem) {
  const char* kBlocks = "BlockName=b1 Nodes=n[1-2]\nBlockName=b2 Nodes=n[3-4]\nBlockName=b3 Nodes=n5\nBlockSizes=2,4\n";
  EXPECT_EQ(Conf(kBlocks),
            "n1: blocks-of-4 b1, block b1\nn2: blocks-of-4 b1, block b1\nn3: blocks-of-4 b1, block b2\n"
            "n4: blocks-of-4 b1, block b2\nn5: blocks-of-4 b3, block b3");
  EXPECT_EQ(Conf("BlockName=gb_b0 BlockIndex=0 Nodes=10.1.1.1,10.1.1.2 BlockSize=2\n"
                 "BlockName=gb_b1 BlockIndex=1 Nodes=10.1.1.3 BlockSize=2\n"
                 "AggregatedBlock=gb_b[0-1] BlockIndex=2 Nodes=10.1.1.1,10.1.1.2,10.1.1.3 BlockSize=4\n"),
            "10.1.1.1: blocks-of-4 gb_b0, block gb_b0\n10.1.1.2: blocks-of-4 gb_b0, block gb_b0\n"
            "10.1.1.3: blocks-of-4 gb_b0, block gb_b1")
      << "as scontrol shows them";
}

TEST(TopologyConf, LinesMayGoOnAndValuesStandInQuotes) {
  EXPECT_EQ(Conf("SwitchName=s0 \\\n  Nodes=\"a,b\"\r\n"), "a: leaf s0\nb: leaf s0");
}

TEST(TopologyConf, NamesLineAndRemedyInErrors) {
  EXPECT_THAT(Conf(""), StartsWith("topology.conf:1: no switch and no block is defined; a line is"));
  EXPECT_EQ(
      Conf("SwitchName=s0 Nodes=a\nSwitchnam=s1 Nodes=b"),
      "topology.conf:2: a line begins with SwitchName=, BlockName= or BlockSizes=, not switchnam=; did you mean switchname?");
  EXPECT_EQ(Conf("SwitchName=s0 Node=a"), "topology.conf:1: \"node\" is nothing that switchname can have; did you mean nodes?");
  EXPECT_EQ(Conf("\nSwitchName=s0 Nodes=a[1-"), "topology.conf:2: nodes=a[1-: there is a '[' without its ']'");
  EXPECT_EQ(Conf("SwitchName=s0 Nodes=a\n\nSwitchName=s0 Nodes=b"),
            "topology.conf:3: switch s0 is defined twice, first at topology.conf:1; leave one out");
  EXPECT_EQ(Conf("SwitchName=a Switches=b\nSwitchName=b Switches=a"),
            "topology.conf:1: switch a hangs below itself; one of the switches above it must not name it");
  EXPECT_EQ(Conf("SwitchName=a Switches=a"),
            "topology.conf:1: switch a hangs below itself; one of the switches above it must not name it");
  EXPECT_THAT(Conf("SwitchName=s0 a"), HasSubstr("topology.conf:1: \"a\" is no KEY=VALUE"));
  EXPECT_THAT(Conf("SwitchName=s0 Nodes=\"a"), HasSubstr("has no closing"));
  EXPECT_THAT(Conf("Include other.conf"), HasSubstr("Include is not followed here; give the files as one"));
  EXPECT_THAT(Conf("SwitchName= Nodes=a"), HasSubstr("SwitchName= needs a name"));
  EXPECT_THAT(Conf("SwitchName=s Nodes=a\nBlockName=b Nodes=a"), HasSubstr("Slurm uses one of both"));
  EXPECT_EQ(Conf("BlockName=a Nodes=x\nBlockName=b Nodes=x"),
            "topology.conf:2: node x is in block a (topology.conf:1) and in b; leave one out");
  EXPECT_THAT(Conf("BlockName=a Nodes=x\nBlockSizes=4,6"), HasSubstr("topology.conf:2: block size 6 is no multiple of 4"));
  EXPECT_THAT(Conf("BlockSizes=0"), HasSubstr("\"0\" is no number of nodes"));
  EXPECT_THAT(Conf("BlockName=a Nodes=x\nBlockSizes=4\nBlockSizes=8"), HasSubstr("said twice, first at topology.conf:2"));
  std::string deep;
  for (int i = 0; i < 30; ++i) absl::StrAppend(&deep, "SwitchName=s", i, " Switches=s", i + 1, "\n");
  EXPECT_THAT(Conf(deep + "SwitchName=s30 Nodes=a"), HasSubstr("more than 8 switches above each other"));
}

TEST(TopologyConf, WhatCanBeCopedWithIsANoteThatSaysWhatWasTaken) {
  EXPECT_THAT(Notes(ReadSlurmTopologyConf("t",
                                          "SwitchName=s0 Nodes=a\nSwitchName=s1 Nodes=a,b\nSwitchName=t Switches=s[0-2]\n"
                                          "SwitchName=u Switches=s0\nSwitchName=empty")),
              ElementsAre("t:3: switch s2 below t is defined nowhere, and is left out",
                          "t:4: switch s0 hangs below t and below u; t is taken",
                          "t:5: switch empty has neither nodes nor switches, and is left out",
                          "t:2: node a hangs on switch s0 (t:1) and on s1; s0 is taken"));
}

TEST(TopologyConf, FiveThousandNodesAreRead) {
  std::string text;
  for (int leaf = 0; leaf < 160; ++leaf) {
    absl::StrAppend(&text, "SwitchName=leaf", leaf, " Nodes=n[", leaf * 32, "-", leaf * 32 + 31, "]\n");
  }
  absl::StrAppend(&text, "SwitchName=top Switches=leaf[0-159]\n");
  const auto set = ReadSlurmTopologyConf("t", text);
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(set->nodes.size(), 5120u);
}

constexpr char kYaml[] = R"(---
- topology: switches
  cluster_default: true
  tree:
    switches:
      - switch: root
        children: s[1-2]
      - switch: s1
        nodes: n[1-2]
      - switch: s2
        nodes: n3
- topology: blocks
  cluster_default: false
  block:
    block_sizes: [1, 2]
    blocks:
      - block: b1
        nodes: n1
      - block: b2
        nodes: n[2-3]
- topology: none
  flat: true
)";

TEST(TopologyYaml, ReadsTreesBlocksAndNothing) {
  EXPECT_EQ(Yaml(kYaml), "n1: spine root, leaf s1\nn2: spine root, leaf s1\nn3: spine root, leaf s2");
  EXPECT_EQ(Yaml(kYaml, "blocks"), "n1: blocks-of-2 b1, block b1\nn2: blocks-of-2 b1, block b2\nn3: blocks-of-2 b1, block b2");
  EXPECT_EQ(Yaml(kYaml, "none"), "");
  EXPECT_THAT(Notes(ReadSlurmTopologyYaml("t.yaml", kYaml, "none")),
              ElementsAre("t.yaml (none) says of no node where it stands: nodes keep their order"));
}

TEST(TopologyYaml, NamesLineAndRemedyInErrors) {
  EXPECT_THAT(Yaml("a: b"), HasSubstr("topology.yaml:1:1: the file is a list of topologies"));
  EXPECT_THAT(Yaml("- tree: {switches: []}"), HasSubstr("topology.yaml:1:3: topology: NAME is needed here"));
  EXPECT_THAT(Yaml("- topology: a\n  tre: {}"),
              HasSubstr("topology.yaml:2:3: tre: there is no such field; did you mean tree?"));
  EXPECT_THAT(Yaml("- topology: a\n  tree: {switches: [{switch: s, nodes: 'a['}]}"),
              HasSubstr("nodes: there is a '[' without"));
  EXPECT_THAT(Yaml("- topology: a\n  tree: {switches: [{switch: s, nodes: [a, b]}]}"), HasSubstr("in one word"));
  EXPECT_THAT(Yaml(kYaml, "other"), HasSubstr("there is no topology other; there are switches, blocks, none"));
  EXPECT_THAT(Yaml("- topology: a\n  tree: {switches: [{switch: s, children: s}]}"), HasSubstr("hangs below itself"));
  EXPECT_THAT(Yaml("- topology: a\n  block: {block_sizes: [x], blocks: []}"), HasSubstr("list of numbers of nodes"));
  EXPECT_THAT(Yaml("- [}"), HasSubstr("not YAML"));
}

}  // namespace
}  // namespace muster
