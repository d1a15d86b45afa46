// The contract of Communicator::Split, on every backend: who is in which, that what it makes is a communicator like any other, and
// what ends one.
//
// MUSTER_TEST_SEED replays a run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/conformance/conformance.h"
#include "tests/support/collective_cases.h"
#include "tests/support/reference.h"

namespace muster::test {
namespace {

using testing::HasSubstr;

absl::Time Patience() { return absl::Now() + absl::Minutes(2); }

std::unique_ptr<Communicator> SplitOrFail(Communicator& comm, int color, int key) {
  auto split = comm.Split(color, key, Patience());
  EXPECT_TRUE(split.ok()) << split.status() << "; MUSTER_TEST_SEED=" << Seed();
  return split.ok() ? *std::move(split) : nullptr;
}

// The job's ranks of `comm`, by rank. `own`: this one's.
std::vector<int32_t> JobRanks(Communicator& comm, int32_t own) {
  std::vector<int32_t> all(static_cast<size_t>(comm.world_size()), -1);
  const absl::Status status = comm.AllGather({&own, 1, DataType::kInt32}, MakeTensor(all.data(), comm.world_size()));
  EXPECT_TRUE(status.ok()) << status << "; MUSTER_TEST_SEED=" << Seed();
  return all;
}

// A little of every kind of call, right for comm's ranks.
void Exercise(Communicator& comm, int variant = 0) {
  std::vector<Case> cases;
  for (const Kind kind : {Kind::kAllReduce, Kind::kAllReduceShards, Kind::kBroadcast, Kind::kAllGather, Kind::kReduceScatter}) {
    for (const int64_t count : {1, 4099}) {
      const DataType type = ++variant % 2 == 0 ? DataType::kBFloat16 : DataType::kFloat32;
      cases.push_back(MakeExactCase(kind, type, ReduceOp::kSum, count, comm.world_size(), variant));
    }
  }
  RunCases(comm, cases, 1 << 20);
}

// What the ranks of a world say, and who is then with whom: a plain loop.
struct Call {
  int color = 0;
  int key = 0;
};
std::vector<int32_t> MembersOf(const std::vector<Call>& calls, const std::vector<int32_t>& job_ranks, int color) {
  std::vector<std::pair<int, size_t>> order;
  for (size_t r = 0; r < calls.size(); ++r) {
    if (calls[r].color == color) order.emplace_back(calls[r].key, r);
  }
  std::sort(order.begin(), order.end());
  std::vector<int32_t> members;
  for (const auto& [key, r] : order) members.push_back(job_ranks[r]);
  return members;
}

class ConformanceOfSplit : public testing::TestWithParam<World> {
 protected:
  int ranks() const { return GetParam().ranks; }
  void Run(const std::function<void(Communicator&)>& body) { GetParam().run(body); }
};

// Tests that leave something broken.
class BreaksOfSplit : public ConformanceOfSplit {};

TEST_P(ConformanceOfSplit, ByParity) {
  Run([this](Communicator& world) {
    const int rank = world.rank();
    auto split = SplitOrFail(world, rank % 2, 0);
    ASSERT_NE(split, nullptr);
    EXPECT_EQ(split->rank(), rank / 2);
    EXPECT_EQ(split->world_size(), (ranks() + 1 - rank % 2) / 2);
    EXPECT_EQ(split->generation(), world.generation());
    EXPECT_STREQ(split->capabilities().backend, world.capabilities().backend);
    for (const int32_t job_rank : JobRanks(*split, rank)) EXPECT_EQ(job_rank % 2, rank % 2);
    Exercise(*split, rank % 2);
    Exercise(world);
  });
}

TEST_P(ConformanceOfSplit, KeysReverseTheOrder) {
  Run([this](Communicator& world) {
    auto split = SplitOrFail(world, 7, -world.rank());
    ASSERT_NE(split, nullptr);
    EXPECT_EQ(split->rank(), ranks() - 1 - world.rank());
    std::vector<int32_t> reversed(static_cast<size_t>(ranks()));
    std::iota(reversed.rbegin(), reversed.rend(), 0);
    EXPECT_EQ(JobRanks(*split, world.rank()), reversed);
    Exercise(*split);
  });
}

TEST_P(ConformanceOfSplit, WithoutAColorARankOnlyTakesPart) {
  Run([this](Communicator& world) {
    const bool in = world.rank() != 0;
    auto split = SplitOrFail(world, in ? 0 : kNoColor, 0);
    EXPECT_EQ(split != nullptr, in);
    if (in) {
      EXPECT_EQ(split->world_size(), ranks() - 1);
      Exercise(*split);
    }
    EXPECT_EQ(SplitOrFail(world, kNoColor, 0), nullptr) << "nor any other";
    EXPECT_TRUE(world.Barrier().ok());
  });
}

TEST_P(ConformanceOfSplit, OfASplitThatMayGoFirst) {
  Run([](Communicator& world) {
    auto half = SplitOrFail(world, world.rank() < (world.world_size() + 1) / 2 ? 0 : 1, 0);
    ASSERT_NE(half, nullptr);
    auto single = SplitOrFail(*half, half->rank(), 0);
    ASSERT_NE(single, nullptr);
    EXPECT_EQ(single->world_size(), 1);
    auto reversed = SplitOrFail(*half, 0, -half->rank());
    ASSERT_NE(reversed, nullptr);
    EXPECT_EQ(reversed->rank(), half->world_size() - 1 - half->rank());
    Exercise(*reversed);
    Exercise(*single);
    Exercise(*half);
    half.reset();
    EXPECT_EQ(JobRanks(*single, world.rank()), std::vector<int32_t>{world.rank()});
    Exercise(*reversed);
    Exercise(world);
  });
}

TEST_P(ConformanceOfSplit, TwoAtOnceInTwoThreads) {
  Run([](Communicator& world) {
    auto parity = SplitOrFail(world, world.rank() % 2, 0);
    auto reversed = SplitOrFail(world, 0, -world.rank());
    ASSERT_TRUE(parity != nullptr && reversed != nullptr);
    const auto work = [](Communicator& comm) {
      for (int i = 0; i < 3; ++i) Exercise(comm, i);
      std::vector<int64_t> values(3000, 1);
      int64_t wanted = 1;
      for (int i = 0; i < 20; ++i) {
        auto started = comm.StartAllReduce(MakeTensor(values.data(), 3000), ReduceOp::kSum);
        ASSERT_TRUE(started.ok()) << started.status();
        ASSERT_TRUE((*started)->Wait().ok());
        wanted *= comm.world_size();
      }
      EXPECT_EQ(values[2999], wanted);
    };
    std::thread other([&] { work(*parity); });
    work(*reversed);
    other.join();
    EXPECT_TRUE(world.Barrier().ok());
  });
}

// Both take the same communicator's children in the same order, from two threads that split two parents.
TEST_P(ConformanceOfSplit, SplitsOfTwoAtOnce) {
  Run([](Communicator& world) {
    auto one = SplitOrFail(world, 0, 0);
    auto two = SplitOrFail(world, 0, -world.rank());
    ASSERT_TRUE(one != nullptr && two != nullptr);
    const auto work = [](Communicator& comm) {
      for (int i = 0; i < 5; ++i) {
        auto split = SplitOrFail(comm, comm.rank() % (1 + i % 3), i);
        ASSERT_NE(split, nullptr);
        EXPECT_TRUE(split->Barrier(Patience()).ok());
      }
    };
    std::thread other([&] { work(*one); });
    work(*two);
    other.join();
  });
}

TEST_P(ConformanceOfSplit, WindowsBelongToTheirCommunicator) {
  Run([](Communicator& world) {
    static constexpr int64_t kCount = 30'000;
    auto split = SplitOrFail(world, world.rank() % 2, -world.rank());
    ASSERT_NE(split, nullptr);
    auto of_world = world.CreateWindow(kCount * 4);
    auto of_split = split->CreateWindow(kCount * 4);
    ASSERT_TRUE(of_world.ok()) << of_world.status();
    ASSERT_TRUE(of_split.ok()) << of_split.status();
    for (const auto* window : {&*of_world, &*of_split}) {
      auto* const values = static_cast<float*>((*window)->data());
      for (Communicator* const comm : {&world, split.get()}) {
        std::fill(values, values + kCount, 1.0f);
        ASSERT_TRUE(comm->AllReduce(MakeTensor(values, kCount), ReduceOp::kSum).ok());
        EXPECT_EQ(std::count(values, values + kCount, static_cast<float>(comm->world_size())), kCount);
      }
    }
    // The order of ends is free: the window may go after its communicator.
    split.reset();
    EXPECT_TRUE(world.Barrier().ok());
  });
}

TEST_P(ConformanceOfSplit, ABadColorHarmsNothing) {
  Run([](Communicator& world) {
    for (const int color : {-2, -1000}) {
      const absl::Status status = world.Split(color, 0).status();
      EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("color ", color)));
    }
    EXPECT_TRUE(world.Barrier().ok());
    EXPECT_NE(SplitOrFail(world, 0, 0), nullptr);
  });
}

TEST_P(ConformanceOfSplit, WhatWasStartedRunsBeforeIt) {
  Run([](Communicator& world) {
    std::vector<int64_t> values(5000, 1);
    auto started = world.StartAllReduce(MakeTensor(values.data(), 5000), ReduceOp::kSum);
    ASSERT_TRUE(started.ok());
    EXPECT_NE(SplitOrFail(world, 0, 0), nullptr);
    EXPECT_TRUE((*started)->IsDone());
    EXPECT_EQ(values[4999], world.world_size());
  });
}

TEST_P(ConformanceOfSplit, RandomColorsAndKeys) {
  Run([this](Communicator& world) {
    std::mt19937_64 random(Seed());  // the same on all ranks
    std::vector<int32_t> all(static_cast<size_t>(ranks()));
    std::iota(all.begin(), all.end(), 0);
    for (int round = 0; round < 8; ++round) {
      std::vector<Call> calls(static_cast<size_t>(ranks()));
      for (Call& call : calls) call = {static_cast<int>(random() % 4) - 1, static_cast<int>(random() % 5) - 2};
      const Call own = calls[static_cast<size_t>(world.rank())];
      auto split = SplitOrFail(world, own.color, own.key);
      ASSERT_EQ(split == nullptr, own.color == kNoColor);
      if (split != nullptr) {
        const std::vector<int32_t> members = MembersOf(calls, all, own.color);
        ASSERT_EQ(JobRanks(*split, world.rank()), members) << "MUSTER_TEST_SEED=" << Seed() << " round " << round;
        EXPECT_EQ(members[static_cast<size_t>(split->rank())], world.rank());
        Exercise(*split, round);
      }
    }
    EXPECT_TRUE(world.Barrier().ok());
  });
}

TEST_P(BreaksOfSplit, AnAbortReachesTheMembersAlone) {
  Run([](Communicator& world) {
    auto split = SplitOrFail(world, world.rank() % 2, -world.rank());
    ASSERT_NE(split, nullptr);
    auto beside = SplitOrFail(world, 0, 0);
    ASSERT_NE(beside, nullptr);
    if (world.rank() == 0) split->Abort(absl::AbortedError("the disk is full"));
    const absl::Status status = split->Barrier(Patience());
    if (world.rank() % 2 == 0) {
      EXPECT_TRUE(absl::IsAborted(status)) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("rank 0"));
      EXPECT_THAT(std::string(status.message()), HasSubstr("the disk is full"));
      EXPECT_EQ(split->Barrier(), status);
      EXPECT_EQ(split->Split(0, 0).status(), status);
    } else {
      EXPECT_TRUE(status.ok()) << status;
    }
    EXPECT_TRUE(beside->Barrier(Patience()).ok());
    EXPECT_TRUE(world.Barrier(Patience()).ok());
  });
}

TEST_P(BreaksOfSplit, ADeadlineEndsItAlone) {
  if (ranks() < 2) GTEST_SKIP() << "alone, nobody is late";
  Run([this](Communicator& world) {
    auto split = SplitOrFail(world, 0, -world.rank());
    ASSERT_NE(split, nullptr);
    if (world.rank() != ranks() - 1) {
      const absl::Status status = split->Barrier(absl::Now() + absl::Milliseconds(1));
      EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
      EXPECT_EQ(split->Barrier(), status);
    }
    EXPECT_TRUE(world.Barrier(Patience()).ok());
    if (world.rank() == ranks() - 1) {
      // It finds all there, if it looks for them first; then it hears of their end.
      absl::Status status = split->Barrier(Patience());
      if (status.ok()) status = split->Barrier(Patience());
      EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
    }
  });
}

TEST_P(BreaksOfSplit, WhoDestroysItEarlyIsNamedByTheRankOfTheJob) {
  if (ranks() < 2) GTEST_SKIP() << "alone, nobody leaves";
  Run([this](Communicator& world) {
    auto split = SplitOrFail(world, 0, -world.rank());
    ASSERT_NE(split, nullptr);
    ASSERT_TRUE(split->Barrier(Patience()).ok());
    if (world.rank() == ranks() - 1) {
      split.reset();
    } else {
      const absl::Status status = split->Barrier(Patience());
      EXPECT_TRUE(absl::IsUnavailable(status)) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("rank ", ranks() - 1)));
    }
    EXPECT_TRUE(world.Barrier(Patience()).ok());
  });
}

TEST_P(BreaksOfSplit, ACallThatDiffersIsNamedByTheRankOfTheJob) {
  if (ranks() < 3) GTEST_SKIP() << "three ranks are needed to say who is the odd one";
  Run([this](Communicator& world) {
    auto split = SplitOrFail(world, 0, -world.rank());
    ASSERT_NE(split, nullptr);
    const bool odd = world.rank() == ranks() - 1;  // 0 in there
    std::vector<float> data(5000);
    const absl::Status status = split->AllReduce(MakeTensor(data.data(), odd ? 9 : 5000), ReduceOp::kSum, Patience());
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("rank ", ranks() - 1, " called all_reduce of 9 f32")));
    EXPECT_TRUE(world.Barrier(Patience()).ok());
  });
}

TEST_P(BreaksOfSplit, OneThatDoesNotSplitIsNamed) {
  if (ranks() < 3) GTEST_SKIP() << "three ranks are needed to say who is the odd one";
  Run([](Communicator& world) {
    const absl::Status status = world.rank() == 1 ? world.Barrier(Patience()) : world.Split(0, 0, Patience()).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 called barrier, the others split"));
  });
}

std::string NameOf(const testing::TestParamInfo<World>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Worlds, ConformanceOfSplit, testing::ValuesIn(ConformanceWorlds()), NameOf);
INSTANTIATE_TEST_SUITE_P(Worlds, BreaksOfSplit, testing::ValuesIn(ConformanceWorlds()), NameOf);

}  // namespace
}  // namespace muster::test
