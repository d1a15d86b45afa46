// Every collective of the native backend equals a plain loop, bit for bit: 1-9 ranks, all types and operations, sizes on both
// sides of every switch between algorithms, buffers in windows, private and mixed, blocking and started.
//
// MUSTER_TEST_SEED replays a run.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "muster/communicator.h"
#include "runtime/kernels/reduce.h"
#include "tests/support/collective_cases.h"
#include "tests/support/fake_node.h"
#include "tests/support/reference.h"

namespace muster::test {
namespace {

void RunCases(int ranks, const std::vector<Case>& cases) {
  FakeNode node({.ranks = ranks, .slot_bytes = kTestSlotBytes, .staging_bytes = kTestStagingBytes});
  RunRanks(node, [&cases](Communicator& comm) { RunCases(comm, cases); });
}

// Both sides of each switch: flag line | slots | one chunk | several chunks, for `rows` rows a rank.
std::vector<int64_t> Counts(DataType type, int rows) {
  const int64_t size = SizeOf(type) * rows;
  const int64_t copied = kTestSlotBytes / 8 / size;
  const int64_t slot = kTestSlotBytes / size;
  const int64_t chunk = kTestStagingBytes / size;
  return {0, 1, 3, 48 / size, 48 / size + 1, copied, copied + 1, slot, slot + 1, chunk + 1, 3 * chunk + 17};
}

class Collectives : public testing::TestWithParam<int> {};

void RunKind(Kind kind, int ranks) {
  const bool reduces = kind != Kind::kBroadcast && kind != Kind::kAllGather;
  int variant = 0;
  for (int t = 0; t < kDataTypes; ++t) {
    std::vector<Case> cases;
    const auto type = static_cast<DataType>(t);
    for (int o = 0; o < (reduces ? kReduceOps : 1); ++o) {
      const auto op = static_cast<ReduceOp>(o);
      if (!OpFitsType(op, type)) continue;
      for (int64_t count : Counts(type, kind == Kind::kReduceScatter ? ranks : 1)) {
        cases.push_back(MakeCase(kind, type, op, count, ranks, variant++));
      }
    }
    RunCases(ranks, cases);
    if (testing::Test::HasFailure()) return;
  }
}

TEST_P(Collectives, AllReduce) { RunKind(Kind::kAllReduce, GetParam()); }
TEST_P(Collectives, AllReduceShards) { RunKind(Kind::kAllReduceShards, GetParam()); }
TEST_P(Collectives, AllGather) { RunKind(Kind::kAllGather, GetParam()); }
TEST_P(Collectives, ReduceScatter) { RunKind(Kind::kReduceScatter, GetParam()); }

TEST_P(Collectives, BroadcastFromEveryRoot) {
  RunKind(Kind::kBroadcast, GetParam());
  std::vector<Case> cases;
  for (int root = 0; root < GetParam(); ++root) {
    for (int64_t count : Counts(DataType::kUint8, 1)) {
      cases.push_back(MakeCase(Kind::kBroadcast, DataType::kUint8, ReduceOp::kSum, count, GetParam(), root));
    }
  }
  RunCases(GetParam(), cases);
}

INSTANTIATE_TEST_SUITE_P(Ranks, Collectives, testing::Range(1, 10));

// The vectors are able to show a wrong order: a left-to-right sum of the same inputs has other bits.
TEST(CollectivesOrder, ALeftToRightSumDiffers) {
  for (int ranks = 4; ranks <= 9; ++ranks) {
    for (DataType type : {DataType::kFloat32, DataType::kFloat64}) {
      const Case c = MakeCase(Kind::kAllReduce, type, ReduceOp::kSum, 1000, ranks, 0);
      std::vector<Bytes> vectors;
      for (const auto& rows : c.inputs) vectors.push_back(rows[0]);
      const Bytes wrong = LeftToRightAllReduce(vectors, type, ReduceOp::kSum);
      RunRanks(ranks, [&](Communicator& comm) {
        Bytes data = c.inputs[static_cast<size_t>(comm.rank())][0];
        ASSERT_TRUE(comm.AllReduce({data.data(), 1000, type}, ReduceOp::kSum).ok());
        EXPECT_EQ(Difference(c.expected[0], data.data(), type), "");
        EXPECT_NE(Difference(wrong, data.data(), type), "");
      });
    }
  }
}

// D3: eight shards give the same bits on 1 to 8 ranks.
TEST(CollectivesOrder, SumsOfShardsDoNotDependOnTheWorldSize) {
  constexpr int kShards = 8;
  for (int64_t count : {7, 5000, 40'000}) {
    std::vector<Bytes> shards;
    for (int s = 0; s < kShards; ++s) shards.push_back(TestVector(Seed(), s, DataType::kFloat32, ReduceOp::kAvg, count));
    const Bytes expected = ReferenceAllReduce(shards, DataType::kFloat32, ReduceOp::kAvg);
    for (int ranks = 1; ranks <= kShards; ++ranks) {
      RunRanks(ranks, [&](Communicator& comm) {
        const std::vector<Bytes> partials = ReferencePartials(shards, ranks, comm.rank(), DataType::kFloat32, ReduceOp::kAvg);
        const int64_t stride = (count * 4 + 63) / 64 * 64;
        auto window = comm.CreateWindow(stride * PartialsMax(kShards, ranks));
        ASSERT_TRUE(window.ok()) << window.status();
        auto* data = static_cast<unsigned char*>((*window)->data());
        for (size_t i = 0; i < partials.size(); ++i) {
          std::copy(partials[i].begin(), partials[i].end(), data + static_cast<int64_t>(i) * stride);
        }
        ASSERT_TRUE(comm.AllReduceShards({data, count, stride, DataType::kFloat32, kShards}, ReduceOp::kAvg).ok());
        EXPECT_EQ(Difference(expected, data, DataType::kFloat32), "") << ranks << " ranks; MUSTER_TEST_SEED=" << Seed();
      });
    }
  }
}

}  // namespace
}  // namespace muster::test
