#include "launcher/planner/nccl_check.h"

#include <algorithm>
#include <cstdlib>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/planner/nccl_log.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::vector<int>> RingsIn(const std::string& text) {
  NcclLog log;
  log.Read(text);
  const auto rings = log.Take();
  return rings.ok() ? rings->rings : std::vector<std::vector<int>>();
}

std::string ErrorIn(const std::string& text) {
  NcclLog log;
  log.Read(text);
  return std::string(log.Take().status().message());
}

TEST(NcclLog, ReadsWhatRankZeroSays) {
  EXPECT_THAT(RingsIn("a:1:9 [0] NCCL INFO Channel 00/02 :    0   1   2   3\n"
                      "a:1:9 [0] NCCL INFO Channel 01/02 :    0   3   2   1\n"
                      "a:1:9 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/IPC\n"
                      "a:1:9 [0] NCCL INFO Ring 00 : 0[0] -> 1[1000]\n"),
              ElementsAre(ElementsAre(0, 1, 2, 3), ElementsAre(0, 3, 2, 1)));
}

TEST(NcclLog, ReadsHostsBehindTagsAndTimes) {
  NcclLog log;
  log.Read(
      "[3] [2025-11-02 10:00:00] node-b.example:77:78 [1] NCCL INFO ncclCommInitRankConfig comm 0x1 rank 3 nranks 4 cudaDev 1 "
      "busId 1 "
      "commId 0x7 - Init COMPLETE\n"
      "[default0]:node-a:5:6 [0] NCCL INFO Channel 00/01 : 0 1 2 3\n"
      "fd00::a:5:6 [0] NCCL INFO ncclCommInitRankConfig comm 0x1 rank 2 nranks 4 cudaDev 1 commId 0x7 - Init COMPLETE\n");
  // The thread of rank 0 has not said of which communicator it speaks.
  const auto rings = log.Take();
  ASSERT_TRUE(rings.ok()) << rings.status();
  EXPECT_EQ(rings->ranks, 4);
  EXPECT_THAT(rings->rings, ElementsAre(ElementsAre(0, 1, 2, 3)));
  NcclLog whole;
  whole.Read(
      "[3] x [2025-11-02 10:00:00] node-b.example:77:78 [1] NCCL INFO Ring 00 : 0 -> 1 -> 0\n"
      "node-a:5:6 [0] NCCL INFO Ring 00 : 1 -> 0 -> 1\n");
  EXPECT_THAT(whole.Take()->hosts, ElementsAre("node-a", "node-b.example"));
}

// The largest communicator, the last of equals; both with the id of new versions and without that of old ones.
TEST(NcclLog, TakesTheWorldAmongCommunicators) {
  const auto of = [](const std::string& id, const std::string& order, int ranks, bool is_new) {
    const std::string head = "h:1:2 [0] NCCL INFO ";
    const std::string who =
        absl::StrCat("comm 0x1 rank 0 nranks ", ranks, " cudaDev 0", is_new ? " commId " + id : "", " - Init ");
    return absl::StrCat(is_new ? head + who + "START\n" : "", head, "Channel 00/01 : ", order, "\n", head, who, "COMPLETE\n");
  };
  for (const bool is_new : {false, true}) {
    EXPECT_THAT(RingsIn(absl::StrCat(of("1", "0 1 2 3", 4, is_new), of("2", "0 1", 2, is_new))),
                ElementsAre(ElementsAre(0, 1, 2, 3)));
    EXPECT_THAT(RingsIn(absl::StrCat(of("1", "0 1 2 3", 4, is_new), of("2", "0 2 1 3", 4, is_new), of("3", "1 0", 2, is_new))),
                ElementsAre(ElementsAre(0, 2, 1, 3)));
  }
}

// A long line of rank 0 is cut, and what all ranks say of their neighbours is put together instead.
TEST(NcclLog, PutsTogetherWhatAllRanksSay) {
  const char* const set = std::getenv("MUSTER_TEST_SEED");
  const uint64_t seed = set != nullptr ? std::strtoull(set, nullptr, 10) : std::random_device()();
  std::mt19937_64 random(seed);
  for (int run = 0; run < 200; ++run) {
    const int ranks = 1 + static_cast<int>(random() % 60), channels = 1 + static_cast<int>(random() % 4);
    std::vector<std::vector<int>> rings;
    std::vector<std::string> lines;
    for (int channel = 0; channel < channels; ++channel) {
      std::vector<int>& ring = rings.emplace_back();
      for (int rank = 0; rank < ranks; ++rank) ring.push_back(rank);
      std::shuffle(ring.begin() + 1, ring.end(), random);
      for (int i = 0; i < ranks; ++i) {
        lines.push_back(absl::StrFormat("h%d:1:2 [0] NCCL INFO Ring %02d : %d -> %d -> %d", ring[i] / 8, channel,
                                        ring[(i + ranks - 1) % ranks], ring[i], ring[(i + 1) % ranks]));
      }
      lines.push_back(absl::StrFormat("h0:1:2 [0] NCCL INFO Channel %02d/%02d : %s ...", channel, channels,
                                      absl::StrJoin(ring.begin(), ring.begin() + ranks / 2, " ")));
    }
    std::shuffle(lines.begin(), lines.end(), random);
    ASSERT_EQ(RingsIn(absl::StrJoin(lines, "\n")), rings) << "replay: MUSTER_TEST_SEED=" << seed;
    lines.erase(std::find_if(lines.begin(), lines.end(),
                             [](const std::string& line) { return line.find("Ring") != std::string::npos; }));
    if (channels == 1 && ranks > 1) {
      ASSERT_THAT(ErrorIn(absl::StrJoin(lines, "\n")), HasSubstr("give the output of all ranks")) << seed;
    }
  }
}

TEST(NcclLog, SaysWhatIsMissingOrContradicts) {
  EXPECT_THAT(ErrorIn("step 1 loss 2\nNCCL INFO\nNCCL INFO Channel 00/01 : 0 1\n"), HasSubstr("NCCL_DEBUG=INFO"));
  EXPECT_THAT(ErrorIn("a:1:1 [0] NCCL INFO Ring 00 : 1 -> 0 -> 1\na:2:2 [1] NCCL INFO Ring 00 : 1 -> 1 -> 1\n"),
              HasSubstr("channel 0: rank 0 sends to rank 1, which receives from rank 1"));
  EXPECT_THAT(ErrorIn("a:1:1 [0] NCCL INFO Ring 99999999999 : 1 -> 0 -> 1\n"), HasSubstr("NCCL_DEBUG=INFO"));
  EXPECT_THAT(ErrorIn("a:1:1 [0] NCCL INFO Channel 00/01 : 0 1 1\n"), HasSubstr("only some have spoken"));
}

// Nodes n0 to n7, every second of the other leaf, two ranks each.
Cluster TwoLeaves() {
  Cluster cluster;
  cluster.levels = {{.name = "leaf"}};
  for (int i = 0; i < 8; ++i) {
    Cluster::Node& node = cluster.nodes.emplace_back();
    node.name = absl::StrCat("n", i);
    node.labels = {i % 2 == 0 ? "l0" : "l1"};
  }
  return cluster;
}

NcclRings Of(const std::vector<int>& nodes, const std::vector<int>& ring) {
  NcclRings nccl;
  nccl.ranks = static_cast<int>(2 * nodes.size());
  for (const int node : nodes) nccl.hosts.insert(nccl.hosts.end(), 2, absl::StrCat("n", node, ".cluster.local"));
  nccl.rings = {ring};
  return nccl;
}

std::vector<int> InOrder(int ranks) {
  std::vector<int> ring;
  for (int rank = 0; rank < ranks; ++rank) ring.push_back(rank);
  return ring;
}

TEST(NcclCheck, SeesWhetherARingFollowsThePlan) {
  const Cluster cluster = TwoLeaves();
  const GroupTree tree(cluster);
  const Plan plan = MakePlan(cluster, tree, {.ranks_per_node = 2, .rings = 1});
  const auto check = [&](const NcclRings& nccl) { return *CheckNcclRings(cluster, tree, plan, nccl); };
  ASSERT_EQ(plan.order.nodes, std::vector<int>({0, 2, 4, 6, 1, 3, 5, 7}));

  const NcclCheck same = check(Of({0, 2, 4, 6, 1, 3, 5, 7}, InOrder(16)));
  EXPECT_EQ(same.worst(), Follows::kPlan);
  EXPECT_THAT(same.planned, ElementsAre(2));
  EXPECT_THAT(NcclCheckText(cluster, same), HasSubstr("NCCL's ring goes round the nodes as planned"));

  std::vector<int> back = InOrder(16);
  std::reverse(back.begin(), back.end());
  std::rotate(back.begin(), back.begin() + 5, back.end());
  EXPECT_EQ(check(Of({0, 2, 4, 6, 1, 3, 5, 7}, back)).worst(), Follows::kPlan);

  EXPECT_EQ(check(Of({2, 0, 4, 6, 1, 3, 5, 7}, InOrder(16))).worst(), Follows::kOtherOrder);

  const NcclCheck by_name = check(Of({0, 1, 2, 3, 4, 5, 6, 7}, InOrder(16)));
  EXPECT_EQ(by_name.worst(), Follows::kNot);
  EXPECT_THAT(by_name.rings[0].crossings, ElementsAre(8));
  EXPECT_EQ(by_name.rings[0].difference,
            "channel 0 goes from rank 1 on n0 (leaf l0) to rank 2 on n1 (leaf l1), where the plan has n7 (leaf l1) and n2 "
            "(leaf l0) beside "
            "the first; it crosses leaf 8 times, the plan 2");

  // Local ranks that do not follow each other: the ring comes to a node twice.
  std::vector<int> torn = InOrder(16);
  std::swap(torn[1], torn[14]);
  EXPECT_EQ(check(Of({0, 2, 4, 6, 1, 3, 5, 7}, torn)).worst(), Follows::kNot);
  EXPECT_THAT(check(Of({0, 2, 4, 6, 1, 3, 5, 7}, torn)).rings[0].difference, HasSubstr("it comes to n0 2 times"));
}

TEST(NcclCheck, NeedsHostsOrAPlanOfAsManyRanks) {
  const Cluster cluster = TwoLeaves();
  const GroupTree tree(cluster);
  const Plan plan = MakePlan(cluster, tree, {.ranks_per_node = 2, .rings = 1});
  NcclRings nccl = Of({0, 2, 4, 6, 1, 3, 5, 7}, InOrder(16));
  nccl.hosts.assign(16, "");
  nccl.rings.push_back({});
  const auto assumed = CheckNcclRings(cluster, tree, plan, nccl);
  ASSERT_TRUE(assumed.ok()) << assumed.status();
  EXPECT_EQ(assumed->worst(), Follows::kPlan);
  EXPECT_THAT(absl::StrJoin(assumed->doubts, "\n"), HasSubstr("16 of 16 ranks have not said their host"));
  EXPECT_THAT(absl::StrJoin(assumed->doubts, "\n"), HasSubstr("1 of 2 channels are not told in full"));
  nccl.ranks = 14;
  nccl.hosts.resize(14);
  EXPECT_THAT(std::string(CheckNcclRings(cluster, tree, plan, nccl).status().message()),
              HasSubstr("the plan has 16 ranks where NCCL has 14"));
  nccl.hosts[3] = "m3";
  EXPECT_THAT(std::string(CheckNcclRings(cluster, tree, plan, nccl).status().message()),
              HasSubstr("rank 0 has not said its host"));
  nccl.hosts.assign(14, "nn1");
  EXPECT_THAT(std::string(CheckNcclRings(cluster, tree, plan, nccl).status().message()),
              HasSubstr("NCCL ran on nn1, which the cluster does not have; did you mean n1?"));
}

}  // namespace
}  // namespace muster
