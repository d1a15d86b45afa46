// The contract of Communicator, on every backend. Where a backend promises no order of additions, values are such that it does not matter.
//
// MUSTER_TEST_SEED replays a run.
#include "tests/conformance/conformance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/kernels/reduce.h"
#include "tests/support/collective_cases.h"
#include "tests/support/reference.h"

namespace muster::test {
namespace {

using testing::HasSubstr;

class Conformance : public testing::TestWithParam<World> {
 protected:
  int ranks() const { return GetParam().ranks; }
  void Run(const std::function<void(Communicator&)>& body) { GetParam().run(body); }

  void RunKind(Kind kind) {
    const bool reduces = kind != Kind::kBroadcast && kind != Kind::kAllGather;
    std::vector<Case> exact, by_tree;
    int variant = 0;
    for (int t = 0; t < kDataTypes; ++t) {
      const auto type = static_cast<DataType>(t);
      for (int o = 0; o < (reduces ? kReduceOps : 1); ++o) {
        if (!OpFitsType(static_cast<ReduceOp>(o), type)) continue;
        for (const int64_t count : {0, 1, 127, 4099}) {
          exact.push_back(MakeExactCase(kind, type, static_cast<ReduceOp>(o), count, ranks(), variant));
          by_tree.push_back(MakeCase(kind, type, static_cast<ReduceOp>(o), count, ranks(), variant++));
        }
      }
    }
    Run([&](Communicator& comm) { RunCases(comm, comm.capabilities().bits_follow_canonical_tree ? by_tree : exact, 1 << 20); });
  }
};

// A world's tests that end it.
class Breaks : public Conformance {};

TEST_P(Conformance, AllReduce) { RunKind(Kind::kAllReduce); }
TEST_P(Conformance, AllReduceShards) { RunKind(Kind::kAllReduceShards); }
TEST_P(Conformance, Broadcast) { RunKind(Kind::kBroadcast); }
TEST_P(Conformance, AllGather) { RunKind(Kind::kAllGather); }
TEST_P(Conformance, ReduceScatter) { RunKind(Kind::kReduceScatter); }

TEST_P(Conformance, RanksKnowTheirPlace) {
  Run([this](Communicator& comm) {
    EXPECT_EQ(comm.world_size(), ranks());
    EXPECT_NE(std::string(comm.capabilities().backend), "");
    std::vector<int32_t> all(static_cast<size_t>(ranks()), -1);
    const int32_t rank = comm.rank();
    ASSERT_TRUE(comm.AllGather({&rank, 1, DataType::kInt32}, MakeTensor(all.data(), ranks())).ok());
    for (int r = 0; r < ranks(); ++r) EXPECT_EQ(all[static_cast<size_t>(r)], r);
  });
}

// Values whose sums depend on the order: close to what is right, the same on all ranks, and the same once more.
TEST_P(Conformance, SumsAreAlikeOnAllRanksAndRepeat) {
  static constexpr int64_t kCount = 30'011;
  Run([this](Communicator& comm) {
    std::vector<float> first, sum(kCount);
    for (int round = 0; round < 3; ++round) {
      for (int64_t i = 0; i < kCount; ++i) {
        sum[static_cast<size_t>(i)] = 1.0f / static_cast<float>(1 + comm.rank() + i % 977);
      }
      ASSERT_TRUE(comm.AllReduce(MakeTensor(sum.data(), kCount), ReduceOp::kSum).ok());
      if (round == 0 || !GetParam().buffers_stay) first = sum;
      EXPECT_EQ(std::memcmp(first.data(), sum.data(), kCount * sizeof(float)), 0) << "round " << round;
    }
    for (int64_t i = 0; i < kCount; i += 311) {
      double right = 0;
      for (int r = 0; r < comm.world_size(); ++r) right += 1.0f / static_cast<float>(1 + r + i % 977);
      EXPECT_NEAR(sum[static_cast<size_t>(i)], right, 1e-6 * right);
    }
    std::vector<float> rank0s = sum;
    ASSERT_TRUE(comm.Broadcast(MakeTensor(rank0s.data(), kCount), 0).ok());
    EXPECT_EQ(std::memcmp(rank0s.data(), sum.data(), kCount * sizeof(float)), 0);
  });
}

TEST_P(Conformance, LargeBuffers) {
  static constexpr int64_t kCount = (5 << 20) + 3;
  Run([](Communicator& comm) {
    const int ranks = comm.world_size();
    std::vector<float> values(kCount);
    for (int64_t i = 0; i < kCount; ++i) values[static_cast<size_t>(i)] = static_cast<float>(comm.rank() + i % 1000);
    ASSERT_TRUE(comm.AllReduce(MakeTensor(values.data(), kCount), ReduceOp::kSum).ok());
    int64_t wrong = 0;
    for (int64_t i = 0; i < kCount; ++i) {
      wrong += values[static_cast<size_t>(i)] != static_cast<float>(ranks * (ranks - 1) / 2 + ranks * (i % 1000));
    }
    EXPECT_EQ(wrong, 0);
    std::vector<uint16_t> halves(kCount, RoundScalar(DataType::kBFloat16, 3));
    ASSERT_TRUE(comm.AllReduce({halves.data(), kCount, DataType::kBFloat16}, ReduceOp::kAvg).ok());
    EXPECT_EQ(std::count(halves.begin(), halves.end(), RoundScalar(DataType::kBFloat16, 3)), kCount);
  });
}

TEST_P(Conformance, ABlockingCallWaitsForWhatWasStarted) {
  Run([](Communicator& comm) {
    std::vector<int64_t> a(5000, 1);
    std::vector<int64_t> b(7, 1);
    std::vector<std::unique_ptr<Work>> works;
    for (int i = 0; i < 50; ++i) {
      for (std::vector<int64_t>* v : {&a, &b}) {
        auto work = comm.StartAllReduce(MakeTensor(v->data(), static_cast<int64_t>(v->size())), ReduceOp::kSum);
        ASSERT_TRUE(work.ok()) << work.status();
        works.push_back(*std::move(work));
      }
      ASSERT_TRUE(comm.AllReduce(MakeTensor(b.data(), 7), ReduceOp::kMax).ok());
      for (const auto& work : works) EXPECT_TRUE(work->IsDone());
    }
    uint64_t power = 1;  // ranks^50, wrapped
    for (int i = 0; i < 50; ++i) power *= static_cast<uint64_t>(comm.world_size());
    EXPECT_EQ(static_cast<uint64_t>(a[4999]), power);
    EXPECT_EQ(static_cast<uint64_t>(b[6]), power);
  });
}

TEST_P(Conformance, WindowsAreZeroedAlignedAndOfAnyNumber) {
  Run([](Communicator& comm) {
    std::vector<std::unique_ptr<Window>> windows;
    for (const int64_t bytes : {1, 4096, 1 << 20}) {
      auto window = comm.CreateWindow(bytes);
      ASSERT_TRUE(window.ok()) << window.status();
      EXPECT_EQ((*window)->bytes(), bytes);
      EXPECT_EQ(reinterpret_cast<uintptr_t>((*window)->data()) % 4096, 0u);
      const auto* data = static_cast<const char*>((*window)->data());
      EXPECT_EQ(std::count(data, data + bytes, 0), bytes);
      windows.push_back(*std::move(window));
    }
    windows.erase(windows.begin());
    EXPECT_TRUE(comm.Barrier().ok());
  });
}

// Errors in one rank's own arguments are found before anything is sent, and harm nothing.
TEST_P(Conformance, ArgumentsAreCheckedBeforeAnythingIsSent) {
  Run([](Communicator& comm) {
    const int64_t ranks = comm.world_size();
    std::vector<float> data(static_cast<size_t>(64 * ranks));
    std::vector<absl::Status> bad = {
        comm.AllReduce(MakeTensor(static_cast<float*>(nullptr), 4), ReduceOp::kSum),
        comm.AllReduce(MakeTensor(data.data(), -1), ReduceOp::kSum),
        comm.AllReduce({data.data(), int64_t{1} << 62, DataType::kFloat32}, ReduceOp::kSum),
        comm.AllReduce({data.data(), 4, DataType::kInt32}, ReduceOp::kAvg),
        comm.Broadcast(MakeTensor(data.data(), 4), comm.world_size()),
        comm.Broadcast(MakeTensor(data.data(), 4), -1),
        comm.AllGather(MakeTensor(data.data(), 4), MakeTensor(data.data() + 8, 4 * ranks + 1)),
        comm.ReduceScatter(MakeTensor(data.data(), 4 * ranks + 1), MakeTensor(data.data() + 16, 4), ReduceOp::kSum),
        comm.AllReduceShards({data.data(), 4, 64, DataType::kFloat32, comm.world_size() - 1}, ReduceOp::kSum),
        comm.AllReduceShards({data.data(), 4, 60, DataType::kFloat32, comm.world_size()}, ReduceOp::kSum),
        comm.AllReduceShards({data.data(), 17, 64, DataType::kFloat32, comm.world_size()}, ReduceOp::kSum),
        comm.CreateWindow(0).status(),
        comm.StartBroadcast(MakeTensor(data.data(), 4), comm.world_size()).status(),
        comm.AllGather(MakeTensor(data.data() + 1, 4), MakeTensor(data.data(), 4 * ranks)),
    };
    for (const absl::Status& status : bad) EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(bad[8].message()), HasSubstr("--shards"));
    EXPECT_TRUE(comm.Barrier().ok());
  });
}

TEST_P(Breaks, ACallThatDiffersIsNamedByAll) {
  if (ranks() < 3) GTEST_SKIP() << "three ranks are needed to say who is the odd one";
  Run([this](Communicator& comm) {
    const bool odd = comm.rank() == ranks() - 1;
    std::vector<float> data(5000);
    ASSERT_TRUE(comm.Barrier().ok());
    const absl::Status status = comm.AllReduce(MakeTensor(data.data(), odd ? 9 : 5000), ReduceOp::kSum);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("rank ", ranks() - 1, " called all_reduce of 9 f32")));
    EXPECT_EQ(comm.Barrier(), status);
  });
}

TEST_P(Breaks, AbortReachesEveryRankAndStays) {
  Run([](Communicator& comm) {
    ASSERT_TRUE(comm.Barrier().ok());
    if (comm.rank() == 0) comm.Abort(absl::AbortedError("the disk is full"));
    std::vector<double> data(3000);
    const absl::Status status = comm.AllReduce(MakeTensor(data.data(), 3000), ReduceOp::kSum, absl::Now() + absl::Minutes(2));
    EXPECT_TRUE(absl::IsAborted(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 0"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("the disk is full"));
    EXPECT_EQ(comm.Barrier(), status);
    auto started = comm.StartBarrier();
    EXPECT_EQ(started.ok() ? (*started)->Wait() : started.status(), status);
  });
}

TEST_P(Breaks, ADeadlineEndsACallThatWaitsForSomebody) {
  if (ranks() < 2) GTEST_SKIP() << "alone, nobody is late";
  Run([this](Communicator& comm) {
    ASSERT_TRUE(comm.Barrier().ok());
    if (comm.rank() != ranks() - 1) {
      const absl::Status status = comm.Barrier(absl::Now() + absl::Milliseconds(1));
      EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
      EXPECT_EQ(comm.Barrier(), status);
      return;
    }
    // The late rank finds all there, if it looks for them first; then it hears of their end.
    const absl::Time others_deadline = absl::Now() + absl::Milliseconds(500);
    while (absl::Now() < others_deadline) {
    }
    absl::Status status = comm.Barrier(absl::Now() + absl::Minutes(2));
    if (status.ok()) status = comm.Barrier(absl::Now() + absl::Minutes(2));
    EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  });
}

TEST_P(Breaks, WhoLeavesEarlyIsNamed) {
  if (ranks() < 2) GTEST_SKIP() << "alone, nobody leaves";
  Run([this](Communicator& comm) {
    ASSERT_TRUE(comm.Barrier().ok());
    if (comm.rank() == ranks() - 1) return;
    const absl::Status status = comm.Barrier(absl::Now() + absl::Minutes(2));
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("rank ", ranks() - 1)));
  });
}

std::string NameOf(const testing::TestParamInfo<World>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Worlds, Conformance, testing::ValuesIn(ConformanceWorlds()), NameOf);
INSTANTIATE_TEST_SUITE_P(Worlds, Breaks, testing::ValuesIn(ConformanceWorlds()), NameOf);

}  // namespace
}  // namespace muster::test
