#include "tests/support/reference.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>

namespace muster::test {
namespace {

template <class T>
Bytes Pack(std::initializer_list<T> values) {
  Bytes bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.begin(), bytes.size());
  return bytes;
}

// Known answers, worked out by hand, so that the reference itself stands on something.
TEST(Reference, SumOfFourFollowsTheTree) {
  const std::vector<Bytes> leaves{Pack({0x1p24f}), Pack({1.0f}), Pack({-0x1p24f}), Pack({1.0f})};
  // (2^24 + 1) + (-2^24 + 1): 2^24 + 1 is a tie and rounds to even, 2^24; -2^24 + 1 is exact.
  EXPECT_EQ(Difference(Pack({1.0f}), ReferenceAllReduce(leaves, DataType::kFloat32, ReduceOp::kSum).data(), DataType::kFloat32),
            "");
  EXPECT_EQ(
      Difference(Pack({0.25f}), ReferenceAllReduce(leaves, DataType::kFloat32, ReduceOp::kAvg).data(), DataType::kFloat32), "");
}

TEST(Reference, SixteenBitFloatsAreRoundedOnce) {
  // 1 + 2^-8 + 2^-8 in bfloat16 (8 places): rounding after each addition would give 1, in float32 it is 1 + 2^-7.
  const std::vector<Bytes> leaves{Pack<uint16_t>({0x3f80}), Pack<uint16_t>({0x3b80}), Pack<uint16_t>({0x3b80})};
  EXPECT_EQ(ReferenceAllReduce(leaves, DataType::kBFloat16, ReduceOp::kSum), Pack<uint16_t>({0x3f81}));
}

TEST(Reference, MinAndMaxPropagateNanAndOrderZeros) {
  const std::vector<Bytes> leaves{Pack({0.0f, 1.0f}), Pack({-0.0f, std::bit_cast<float>(0xffc00001u)})};
  const Bytes minimum = ReferenceAllReduce(leaves, DataType::kFloat32, ReduceOp::kMin);
  EXPECT_EQ(minimum, Pack<uint32_t>({0x80000000u, 0x7fc00000u}));
  const Bytes maximum = ReferenceAllReduce(leaves, DataType::kFloat32, ReduceOp::kMax);
  EXPECT_EQ(maximum, Pack<uint32_t>({0u, 0x7fc00000u}));
}

TEST(Reference, IntegersWrap) {
  const std::vector<Bytes> leaves{Pack<int32_t>({INT32_MAX, -3}), Pack<int32_t>({1, INT32_MIN})};
  EXPECT_EQ(ReferenceAllReduce(leaves, DataType::kInt32, ReduceOp::kSum), Pack<int32_t>({INT32_MIN, INT32_MAX - 2}));
  EXPECT_EQ(ReferenceAllReduce(leaves, DataType::kInt32, ReduceOp::kMin), Pack<int32_t>({1, INT32_MIN}));
}

// The vectors are of use only if a wrong order changes bits.
class Cancellation : public testing::TestWithParam<std::tuple<DataType, int>> {};
INSTANTIATE_TEST_SUITE_P(All, Cancellation,
                         testing::Combine(testing::Values(DataType::kFloat32, DataType::kFloat64, DataType::kBFloat16,
                                                          DataType::kFloat16),
                                          testing::Values(4, 5, 6, 7, 8, 9, 17)));

TEST_P(Cancellation, LeftToRightSumDiffers) {
  const auto [type, leaves_count] = GetParam();
  for (uint64_t seed = 0; seed < 20; ++seed) {
    for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kAvg}) {
      std::vector<Bytes> leaves;
      for (int rank = 0; rank < leaves_count; ++rank) leaves.push_back(TestVector(seed, rank, type, op, 100));
      EXPECT_NE(ReferenceAllReduce(leaves, type, op), LeftToRightAllReduce(leaves, type, op))
          << Describe(type, op) << " seed " << seed;
    }
  }
}

TEST_P(Cancellation, SomeSumsLoseAllLargeValues) {
  const auto [type, leaves_count] = GetParam();
  std::vector<Bytes> leaves;
  for (int rank = 0; rank < leaves_count; ++rank) leaves.push_back(TestVector(1, rank, type, ReduceOp::kSum, 1000));
  const Bytes sum = ReferenceAllReduce(leaves, type, ReduceOp::kSum);
  const auto value = [type = type](const Bytes& bytes, int i) {
    double f64;
    float f32;
    uint16_t half;
    switch (type) {
      case DataType::kFloat64:
        std::memcpy(&f64, bytes.data() + 8 * i, 8);
        return std::fabs(f64);
      case DataType::kFloat32:
        std::memcpy(&f32, bytes.data() + 4 * i, 4);
        return std::fabs(static_cast<double>(f32));
      default:
        std::memcpy(&half, bytes.data() + 2 * i, 2);
        return std::fabs(static_cast<double>(WidenScalar(type, half)));
    }
  };
  int cancelled = 0;
  for (int i = 0; i < 1000; ++i) {
    double largest = 0;
    for (const Bytes& leaf : leaves) largest = std::max(largest, value(leaf, i));
    if (value(sum, i) < largest / 1000) ++cancelled;
  }
  EXPECT_GE(cancelled, 20);
}

TEST(Reference, ProductsDifferFromLeftToRight) {
  for (const DataType type : {DataType::kFloat32, DataType::kFloat64}) {
    std::vector<Bytes> leaves;
    for (int rank = 0; rank < 4; ++rank) leaves.push_back(TestVector(7, rank, type, ReduceOp::kProd, 100));
    EXPECT_NE(ReferenceAllReduce(leaves, type, ReduceOp::kProd), LeftToRightAllReduce(leaves, type, ReduceOp::kProd));
  }
}

TEST(Reference, ShardsGiveTheSameBitsAtEveryWorldSize) {
  std::vector<Bytes> shards;
  for (int shard = 0; shard < 8; ++shard) shards.push_back(TestVector(3, shard, DataType::kFloat32, ReduceOp::kAvg, 50));
  const Bytes expected = ReferenceAllReduce(shards, DataType::kFloat32, ReduceOp::kAvg);
  for (int world_size = 1; world_size <= 8; ++world_size) {
    std::vector<std::vector<Bytes>> partials;
    for (int rank = 0; rank < world_size; ++rank) {
      partials.push_back(ReferencePartials(shards, world_size, rank, DataType::kFloat32, ReduceOp::kAvg));
    }
    EXPECT_EQ(ReferenceAllReduceShards(partials, 8, DataType::kFloat32, ReduceOp::kAvg), expected) << world_size;
  }
}

TEST(Reference, ScatterAndGatherUndoEachOther) {
  std::vector<Bytes> vectors, parts;
  for (int rank = 0; rank < 3; ++rank) vectors.push_back(TestVector(5, rank, DataType::kInt64, ReduceOp::kSum, 12));
  for (int rank = 0; rank < 3; ++rank) parts.push_back(ReferenceReduceScatter(vectors, DataType::kInt64, ReduceOp::kSum, rank));
  EXPECT_EQ(ReferenceAllGather(parts), ReferenceAllReduce(vectors, DataType::kInt64, ReduceOp::kSum));
}

TEST(Reference, DifferenceNamesTheFirst) {
  const Bytes expected = Pack<uint32_t>({1, 2, 3}), actual = Pack<uint32_t>({1, 5, 4});
  EXPECT_EQ(Difference(expected, expected.data(), DataType::kInt32), "");
  EXPECT_EQ(Difference(expected, actual.data(), DataType::kInt32),
            "element 1: expected 0x00000002, got 0x00000005 (2 of 3 differ)");
}

}  // namespace
}  // namespace muster::test
