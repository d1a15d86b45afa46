// Communicators of random ranks in random order, on one node and on several, made of each other: who is in them, and every collective
// equal to a plain loop over their ranks, bit for bit, in the order that they have there.
//
// MUSTER_TEST_SEED replays a run.
#include "runtime/backend/native/split.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/backend/shared/split_members.h"
#include "runtime/kernels/reduce.h"
#include "tests/support/collective_cases.h"
#include "tests/support/fake_node.h"

namespace muster::test {
namespace {

TEST(SplitMembers, AreOrderedByKeyThenByRank) {
  const std::vector<SplitCall> calls = {{0, 5}, {1, 0}, {0, -3}, {kNoColor, 0}, {0, 5}, {1, -1}};
  EXPECT_EQ(SplitMembers(calls, 0), (std::vector<int>{2, 0, 4}));
  EXPECT_EQ(SplitMembers(calls, 1), (std::vector<int>{5, 1}));
  EXPECT_TRUE(SplitMembers(calls, 9).empty());
}

TEST(RunsOfNodes, EachRunOfNeighboursIsANodeUnlessAllAreOnOne) {
  const std::vector<int> nodes = {0, 0, 0, 1, 1, 2};
  EXPECT_EQ(RunsOfNodes(nodes, std::vector<int>{0, 1, 3, 4}), (std::vector<int>{0, 0, 1, 1}));
  EXPECT_EQ(RunsOfNodes(nodes, std::vector<int>{5, 4, 3, 0}), (std::vector<int>{0, 1, 1, 2}));
  EXPECT_EQ(RunsOfNodes(nodes, std::vector<int>{0, 3, 1, 4}), (std::vector<int>{0, 1, 2, 3}));
  EXPECT_EQ(RunsOfNodes(nodes, std::vector<int>{2, 0, 1}), (std::vector<int>{0, 0, 0}));
  EXPECT_EQ(RunsOfNodes({}, std::vector<int>{3, 1}), (std::vector<int>{0, 0}));
}

// Sizes in which every algorithm is met with the small buffers of FakeClusterOptions below.
std::vector<Case> CasesFor(int ranks, std::mt19937_64& random) {
  std::vector<Case> cases;
  for (const Kind kind : {Kind::kAllReduce, Kind::kAllReduceShards, Kind::kBroadcast, Kind::kAllGather, Kind::kReduceScatter}) {
    const auto type = static_cast<DataType>(random() % kDataTypes);
    auto op = static_cast<ReduceOp>(random() % kReduceOps);
    if (!OpFitsType(op, type)) op = ReduceOp::kSum;
    const int64_t counts[] = {1, 7, 600, 9'000};
    const int64_t count = counts[random() % 4] / (kind == Kind::kReduceScatter ? ranks : 1);
    cases.push_back(MakeCase(kind, type, op, count, ranks, static_cast<int>(random() % 1000)));
  }
  return cases;
}

struct Asked {
  std::vector<SplitCall> calls;          // by rank of the parent
  std::vector<std::vector<Case>> cases;  // by color
};

// What the ranks of a parent of `ranks` ask for, the same on all of them.
Asked AskFor(int ranks, std::mt19937_64& random) {
  Asked asked;
  const int colors = 1 + static_cast<int>(random() % 3);
  for (int r = 0; r < ranks; ++r) {
    const int color = random() % 8 == 0 ? kNoColor : static_cast<int>(random() % static_cast<uint64_t>(colors));
    asked.calls.push_back({color, static_cast<int>(random() % 7) - 3});
  }
  for (int color = 0; color < colors; ++color) {
    const auto members =
        std::count_if(asked.calls.begin(), asked.calls.end(), [color](const SplitCall& call) { return call.color == color; });
    asked.cases.push_back(members == 0 ? std::vector<Case>() : CasesFor(static_cast<int>(members), random));
  }
  return asked;
}

// Two levels: of the world, and of each of its parts.
void RunRound(Communicator& world, uint64_t seed, const std::string& replay) {
  std::mt19937_64 random(seed);
  const Asked asked = AskFor(world.world_size(), random);
  const SplitCall own = asked.calls[static_cast<size_t>(world.rank())];
  auto split = world.Split(own.color, own.key);
  ASSERT_TRUE(split.ok()) << split.status() << replay;
  ASSERT_EQ(*split == nullptr, own.color == kNoColor);
  if (*split == nullptr) return;
  Communicator& comm = **split;
  const std::vector<int> members = SplitMembers(asked.calls, own.color);
  ASSERT_EQ(comm.world_size(), static_cast<int>(members.size()));
  ASSERT_EQ(members[static_cast<size_t>(comm.rank())], world.rank()) << replay;
  RunCases(comm, asked.cases[static_cast<size_t>(own.color)], 1 << 20);

  std::mt19937_64 deeper(seed + 1 + static_cast<uint64_t>(own.color));
  const Asked inner = AskFor(comm.world_size(), deeper);
  const SplitCall inner_own = inner.calls[static_cast<size_t>(comm.rank())];
  auto part = comm.Split(inner_own.color, inner_own.key);
  ASSERT_TRUE(part.ok()) << part.status() << replay;
  if (*part != nullptr) RunCases(**part, inner.cases[static_cast<size_t>(inner_own.color)], 1 << 20);
  EXPECT_TRUE(comm.Barrier().ok()) << replay;
}

TEST(Split, BitsAreThoseOfAPlainLoopInTheOrderOfTheNewRanks) {
  std::mt19937_64 random(Seed());
  const std::vector<std::vector<int>> layouts = {{1}, {4}, {5}, {2, 1}, {2, 2}, {1, 3, 2}, {1, 1, 1, 1}};
  for (int round = 0; round < 24; ++round) {
    FakeClusterOptions options;
    options.ranks = layouts[static_cast<size_t>(round) % layouts.size()];
    options.node.slot_bytes = kTestSlotBytes;
    options.node.staging_bytes = 2 * kTestStagingBytes;
    const std::string replay = absl::StrCat("; MUSTER_TEST_SEED=", Seed(), " round ", round, ", nodes of ",
                                            absl::StrJoin(options.ranks, "+"), " ranks");
    const uint64_t seed = random();
    FakeCluster cluster(options);
    RunRanks(cluster, [&](Communicator& world) {
      RunRound(world, seed, replay);
      EXPECT_TRUE(world.Barrier().ok()) << replay;
    });
    for (const FakeBlame& blame : cluster.blames()) ADD_FAILURE() << blame.message << replay;
    for (int n = 0; n < cluster.nodes(); ++n) {
      v1::ControlHeader* const control = cluster.node(n).control();
      for (uint32_t r = 0; r < control->local_size; ++r) EXPECT_EQ(v1::RankAreaOf(control, r).late_wakes.load(), 0u) << replay;
      EXPECT_EQ(cluster.node(n).offered(), 0u) << "descriptors of communicators that are gone" << replay;
    }
    if (HasFailure()) return;
  }
}

// A window of a communicator of few ranks counts in the limit of all.
TEST(Split, TheMemoryLimitIsOfAllCommunicatorsOfANode) {
  FakeNode node({.ranks = 4, .memory_limit_bytes = 10 << 20});
  RunRanks(node, [](Communicator& world) {
    auto split = world.Split(world.rank() % 2, 0);
    ASSERT_TRUE(split.ok()) << split.status();
    auto of_all = world.CreateWindow(1 << 20);  // 4 of 10 MiB
    ASSERT_TRUE(of_all.ok()) << of_all.status();
    absl::StatusOr<std::unique_ptr<Window>> of_some = nullptr;
    if (world.rank() % 2 == 0) of_some = (*split)->CreateWindow(2 << 20);  // 8
    ASSERT_TRUE(of_some.ok()) << of_some.status();
    ASSERT_TRUE(world.Barrier().ok());
    if (world.rank() % 2 == 1) {
      const absl::Status status = (*split)->CreateWindow(3 << 19).status();  // 11
      EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
      auto fits = (*split)->CreateWindow(1 << 20);  // 10
      EXPECT_TRUE(fits.ok()) << fits.status();
    }
    ASSERT_TRUE(world.Barrier().ok());
    of_some = nullptr;
    ASSERT_TRUE(world.Barrier().ok());
    auto again = world.CreateWindow(3 << 19);  // what the windows that are gone took is free
    EXPECT_TRUE(again.ok()) << again.status();
  });
}

}  // namespace
}  // namespace muster::test
