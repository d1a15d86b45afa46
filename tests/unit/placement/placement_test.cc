#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "launcher/placement/map_text.h"
#include "launcher/placement/place.h"

namespace muster {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kBig[] = "pack:2 numa:2 l3:4 core:8 pu:1";
constexpr char kSmall[] = "pack:2 numa:2 l3:2 core:2 pu:1";
constexpr char kThreads[] = "pack:1 numa:1 l3:1 core:6 pu:2";

PlacementPolicy Policy(const std::string& flags) {
  PlacementPolicy policy;
  const std::vector<std::string> words = absl::StrSplit(flags, ' ', absl::SkipEmpty());
  for (size_t i = 0; i < words.size(); ++i) {
    absl::Status status;
    if (words[i] == "--map-by")
      status = ParseMapBy(words[++i], &policy);
    else if (words[i] == "--rank-by")
      status = ParseRankBy(words[++i], &policy);
    else if (words[i] == "--bind-to")
      status = ParseBindTo(words[++i], &policy);
    else if (words[i] == "--cpu-set")
      policy.cpu_list = words[++i];
    else if (words[i] == "--use-hwthread-cpus")
      policy.hwthread_cpus = true;
    else
      ADD_FAILURE() << words[i];
    EXPECT_TRUE(status.ok()) << status;
  }
  return policy;
}

PlacementNode Node(const std::string& host, const std::string& machine, uint32_t slots = 512) {
  return {host, slots, *Topology::FromSynthetic(machine), {}};
}

std::string Cpus(const PlacementMap& map) {
  std::vector<std::string> parts;
  for (const PlacedRank& rank : map.ranks) parts.push_back(rank.cpus.empty() ? "-" : rank.cpus.ListText());
  return absl::StrJoin(parts, " ");
}

// "a0 b0 a1": node and local rank of each rank.
std::string Places(const PlacementMap& map) {
  std::vector<std::string> parts;
  for (const PlacedRank& rank : map.ranks)
    parts.push_back(std::string(1, static_cast<char>('a' + rank.node)) + std::to_string(rank.local_rank));
  return absl::StrJoin(parts, " ");
}

struct Case {
  const char* machine;
  uint32_t workers;
  const char* flags;
  const char* cpus;  // by rank; "-": not bound
};

// As Open MPI 4.1.4 printed them (mpirun --display-devel-map --do-not-launch); mpirun_test.cc asks it again where it is installed.
TEST(PlaceRanks, AsMpirunDoes) {
  const Case cases[] = {
      {kBig, 4, "--map-by core", "0 1 2 3"},
      {kBig, 4, "--map-by numa", "0-31 32-63 64-95 96-127"},
      {kBig, 4, "--map-by l3cache", "0-7 8-15 16-23 24-31"},
      {kBig, 4, "--map-by socket", "0-63 64-127 0-63 64-127"},
      {kBig, 4, "--map-by slot", "0-31 32-63 64-95 96-127"},
      {kBig, 4, "--map-by node", "0-31 32-63 64-95 96-127"},
      {kBig, 4, "--map-by hwthread", "0 1 2 3"},
      {kBig, 4, "--map-by slot:PE=2", "0-1 2-3 4-5 6-7"},
      {kBig, 4, "--map-by socket:PE=2", "0-1 64-65 2-3 66-67"},
      {kBig, 4, "--map-by socket:PE=2 --rank-by core", "0-1 2-3 64-65 66-67"},
      {kBig, 4, "--map-by ppr:2:socket", "0-31 32-63 64-95 96-127"},
      {kBig, 4, "--bind-to core", "0 32 64 96"},
      {kBig, 4, "--bind-to socket", "0-63 0-63 64-127 64-127"},
      {kBig, 4, "--bind-to none", "- - - -"},
      {kBig, 4, "--rank-by core", "0-31 32-63 64-95 96-127"},
      {kBig, 4, "--rank-by socket", "0-31 64-95 32-63 96-127"},
      {kBig, 4, "--map-by numa --bind-to core", "0 32 64 96"},
      {kBig, 4, "--map-by socket --bind-to l3cache", "0-7 64-71 8-15 72-79"},
      {kBig, 4, "--map-by core --rank-by numa", "0 1 2 3"},
      {kBig, 2, "--bind-to core", "0 1"},
      {kBig, 2, "--rank-by slot", "0 1"},
      {kBig, 2, "--map-by slot", "0 1"},
      {kBig, 2, "--use-hwthread-cpus", "0 1"},
      {kBig, 6, "--map-by numa --rank-by core", "0-31 0-31 32-63 32-63 64-95 96-127"},
      {kBig, 6, "--map-by numa:SPAN", "0-31 64-95 0-31 32-63 32-63 96-127"},
      {kBig, 6, "--map-by socket --rank-by socket:FILL", "0-63 0-63 0-63 64-127 64-127 64-127"},
      {kBig, 6, "--map-by l3cache --bind-to core", "0 8 16 24 32 40"},
      {kThreads, 4, "--map-by core", "0-1 2-3 4-5 6-7"},
      {kThreads, 4, "--map-by hwthread", "0 1 2 3"},
      {kThreads, 4, "--map-by core --bind-to hwthread", "0 2 4 6"},
      {kThreads, 4, "--map-by slot:PE=1", "0-1 2-3 4-5 6-7"},
      {kThreads, 4, "--bind-to core", "0-1 2-3 4-5 6-7"},
      {kThreads, 8, "--map-by core", "- - - - - - - -"},
      {kThreads, 8, "--bind-to core:overload-allowed", "0-1 2-3 4-5 6-7 8-9 10-11 0-1 2-3"},
      {kThreads, 8, "--map-by hwthread", "0 1 2 3 4 5 6 7"},
      {kThreads, 8, "--use-hwthread-cpus --map-by core", "0-1 2-3 4-5 6-7 8-9 10-11 0-1 2-3"},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(std::string(one.machine) + " " + one.flags);
    const auto map = PlaceRanks(Policy(one.flags), one.workers, {Node("a", one.machine)});
    ASSERT_TRUE(map.ok()) << map.status();
    EXPECT_EQ(Cpus(*map), one.cpus);
  }
}

TEST(PlaceRanks, OverSeveralNodes) {
  const std::vector<PlacementNode> nodes = {Node("a", kSmall, 4), Node("b", kSmall, 3)};
  const auto places = [&](const std::string& flags, uint32_t workers) {
    const auto map = PlaceRanks(Policy(flags), workers, nodes);
    return map.ok() ? Places(*map) : std::string(map.status().message());
  };
  EXPECT_EQ(places("--map-by slot", 6), "a0 a1 a2 a3 b0 b1");
  EXPECT_EQ(places("--map-by node", 6), "a0 b0 a1 b1 a2 b2");
  EXPECT_EQ(places("--map-by node --rank-by slot", 6), "a0 a1 a2 b0 b1 b2");
  EXPECT_EQ(places("--map-by slot --rank-by node", 6), "a0 b0 a1 b1 a2 a3");
  EXPECT_EQ(places("--map-by ppr:2:node", 4), "a0 a1 b0 b1");
  EXPECT_THAT(places("--map-by ppr:2:node", 5), HasSubstr("makes place for 4 ranks"));
  EXPECT_THAT(places("--map-by slot", 8), HasSubstr("the nodes have 7 slots"));
  EXPECT_EQ(places("--map-by slot:OVERSUBSCRIBE", 8), "a0 a1 a2 a3 a4 b0 b1 b2");
}

TEST(PlaceRanks, SaysWhetherRanksOfANodeFollowEachOther) {
  const std::vector<PlacementNode> nodes = {Node("a", kSmall, 4), Node("b", kSmall, 3)};
  EXPECT_TRUE(RanksAreContiguous(*PlaceRanks(Policy("--map-by slot"), 6, nodes)));
  EXPECT_FALSE(RanksAreContiguous(*PlaceRanks(Policy("--map-by node"), 6, nodes)));
}

TEST(PlaceRanks, MoreBoundRanksThanCoresAreRefusedWithTheRemedy) {
  const auto map = PlaceRanks(Policy("--bind-to core"), 8, {Node("host-a", kThreads)});
  ASSERT_EQ(map.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(map.status().message()),
              testing::AllOf(HasSubstr("--bind-to core"), HasSubstr("host-a"), HasSubstr("--bind-to core:overload-allowed")));
}

TEST(PlaceRanks, MemoryFollowsTheCores) {
  const auto map = PlaceRanks(Policy("--map-by socket"), 2, {Node("a", kBig)});
  ASSERT_TRUE(map.ok());
  EXPECT_EQ(map->ranks[0].memory_nodes.ListText(), "0-1");
  EXPECT_EQ(map->ranks[1].memory_nodes.ListText(), "2-3");
}

TEST(PlaceRanks, OnlyTheGivenProcessors) {
  EXPECT_EQ(Cpus(*PlaceRanks(Policy("--map-by core --cpu-set 4-7,100"), 4, {Node("a", kBig)})), "4 5 6 7");
  EXPECT_THAT(std::string(PlaceRanks(Policy("--cpu-set 500"), 1, {Node("a", kBig)}).status().message()),
              HasSubstr("none of the processors 500"));
}

TEST(PlaceRanks, InsideACpuset) {
  PlacementNode node = Node("a", kThreads);
  node.topology = *node.topology.Restricted(*CpuSet::Parse("3-7"));  // a half core, and two whole ones
  EXPECT_EQ(Cpus(*PlaceRanks(Policy("--map-by core"), 3, {node})), "3 4-5 6-7");
  EXPECT_FALSE(PlaceRanks(Policy("--bind-to core"), 4, {node}).ok());
}

TEST(PlaceRanks, LeavesWhatAnotherJobHolds) {
  PlacementNode node = Node("host-a", kSmall);
  node.held = {{{0, 1}, 4711}};
  EXPECT_EQ(Cpus(*PlaceRanks(Policy("--map-by core"), 3, {node})), "2 3 4");

  node.held = {{*CpuSet::Parse("0-14"), 4711}};
  const auto refused = PlaceRanks(Policy("--bind-to core"), 2, {node});
  ASSERT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.status().message()),
              testing::AllOf(HasSubstr("4711"), HasSubstr("0-14"), HasSubstr("overload-allowed")));

  const auto loose = PlaceRanks(Policy("--map-by core"), 2, {node});
  ASSERT_TRUE(loose.ok());
  EXPECT_EQ(Cpus(*loose), "- -");
  EXPECT_THAT(loose->notes, ElementsAre(HasSubstr("4711")));

  const auto shared = PlaceRanks(Policy("--bind-to core:overload-allowed --map-by core"), 2, {node});
  ASSERT_TRUE(shared.ok()) << shared.status();
  EXPECT_EQ(shared->ranks.size(), 2u);
  EXPECT_NE(Cpus(*shared), "- -");
}

TEST(PlaceRanks, UnboundJobsCareForNoLocks) {
  PlacementNode node = Node("a", kSmall);
  node.held = {{node.topology.cpus(), 4711}};
  const auto map = PlaceRanks(Policy("--bind-to none"), 2, {node});
  ASSERT_TRUE(map.ok());
  EXPECT_THAT(map->notes, ElementsAre());
}

TEST(PlaceRanks, CountsAPattern) {
  EXPECT_EQ(WorkersOfPattern(Policy("--map-by ppr:2:l3cache"), {Node("a", kBig), Node("b", kSmall)}), 2u * (16 + 8));
  EXPECT_EQ(WorkersOfPattern(Policy("--map-by core"), {Node("a", kBig)}), 0u);
}

TEST(Policy, NamesWhatItDoesNotKnow) {
  PlacementPolicy policy;
  EXPECT_THAT(std::string(ParseMapBy("sockets", &policy).message()),
              testing::AllOf(HasSubstr("--map-by sockets"), HasSubstr("socket")));
  EXPECT_THAT(std::string(ParseMapBy("core:PE", &policy).message()), HasSubstr("PE=N"));
  EXPECT_THAT(std::string(ParseMapBy("ppr:core", &policy).message()), HasSubstr("ppr:N:OBJECT"));
  EXPECT_THAT(std::string(ParseBindTo("slot", &policy).message()), HasSubstr("none of"));
  EXPECT_THAT(std::string(ParseBindTo("core:overload", &policy).message()), HasSubstr("overload-allowed"));
  EXPECT_THAT(std::string(ParseRankBy("core:fil", &policy).message()), HasSubstr("FILL"));
}

TEST(CpuSetTest, ReadsAndWritesTheKernelsLists) {
  EXPECT_EQ(CpuSet::Parse(" 0-3,8,10-11\n")->ListText(), "0-3,8,10-11");
  EXPECT_EQ(CpuSet::Parse("")->ListText(), "");
  for (const char* wrong : {"3-1", "a", "1,,2", "-1", "99999999", "0-"}) EXPECT_FALSE(CpuSet::Parse(wrong).ok()) << wrong;
}

TEST(TopologyTest, TravelsAsXml) {
  const Topology machine = *Topology::FromSynthetic(kBig)->Restricted(*CpuSet::Parse("8-40"));
  const auto again = Topology::FromXml(*machine.ToXml());
  ASSERT_TRUE(again.ok());
  for (const PlacementLevel level :
       {PlacementLevel::kPackage, PlacementLevel::kNuma, PlacementLevel::kL3Cache, PlacementLevel::kCore}) {
    ASSERT_EQ(machine.ObjectsOf(level).size(), again->ObjectsOf(level).size());
    for (size_t i = 0; i < machine.ObjectsOf(level).size(); ++i)
      EXPECT_EQ(machine.ObjectsOf(level)[i].cpus, again->ObjectsOf(level)[i].cpus);
  }
  EXPECT_FALSE(Topology::FromXml("<topology>").ok());
  EXPECT_FALSE(Topology::FromSynthetic("pack:two").ok());
}

TEST(TopologyTest, ThisMachine) {
  const auto here = Topology::Discover();
  ASSERT_TRUE(here.ok()) << here.status();
  EXPECT_FALSE(here->cpus().empty());
  EXPECT_FALSE(here->ObjectsOf(PlacementLevel::kHwthread).empty());
}

TEST(MapText, ShowsBindingsAsMpirunDoes) {
  const Topology machine = *Topology::FromSynthetic("pack:2 core:2 pu:2");
  EXPECT_EQ(BindingPicture(machine, {2, 3}), "[../BB][../..]");
  EXPECT_EQ(BindingLine("host-a", 5, machine, {2, 3}), "[host-a] rank 5 bound to processors 2-3: [../BB][../..]");
  EXPECT_EQ(BindingLine("host-a", 5, machine, {}), "[host-a] rank 5 is not bound");
}

TEST(MapText, ShowsTheDevicesNearest) {
  std::ifstream file(MUSTER_PLACEMENT_TEST_FOLDER "/two_gpus.xml");
  const auto machine = Topology::FromXml(std::string(std::istreambuf_iterator<char>(file), {}));
  ASSERT_TRUE(machine.ok()) << machine.status();
  const std::vector<PlacementNode> nodes = {{"host-a", 4, *machine, {}}};
  const auto map = PlaceRanks(Policy("--map-by core --rank-by socket"), 4, nodes);
  ASSERT_TRUE(map.ok());
  EXPECT_EQ(MapTable(*map, nodes),
            "node host-a: slots 4, ranks 4, processors 0-3\n"
            "  rank 0, local rank 0: processors 0, memory 0, GPU cuda0, NIC ib0 mlx5_0\n"
            "  rank 1, local rank 1: processors 2, memory 1, GPU cuda1, NIC ib1 mlx5_1\n"
            "  rank 2, local rank 2: processors 1, memory 0, GPU cuda0, NIC ib0 mlx5_0\n"
            "  rank 3, local rank 3: processors 3, memory 1, GPU cuda1, NIC ib1 mlx5_1\n");
}

}  // namespace
}  // namespace muster
