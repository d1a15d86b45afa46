#include "runtime/bench/pattern.h"

#include <gtest/gtest.h>

#include "tests/support/reference.h"

namespace muster::bench {
namespace {

// What the pattern says all must get is what a plain loop over the tree gives.
TEST(Pattern, KnowsTheResultOfEveryTypeAndOp) {
  constexpr int64_t kCount = 3001;
  for (int type_number = 0; type_number < kDataTypes; ++type_number) {
    for (int op_number = 0; op_number < kReduceOps; ++op_number) {
      const auto type = static_cast<DataType>(type_number);
      const auto op = static_cast<ReduceOp>(op_number);
      if (op == ReduceOp::kAvg && IsInteger(type)) continue;
      for (const int world_size : {1, 2, 3, 4, 5, 8, 13, 64}) {
        std::vector<test::Bytes> vectors;
        for (int rank = 0; rank < world_size; ++rank) {
          vectors.emplace_back(kCount * SizeOf(type));
          Pattern(type, op, rank, world_size).Fill({vectors.back().data(), kCount, type});
        }
        test::Bytes result = test::ReferenceAllReduce(vectors, type, op);
        const Pattern pattern(type, op, 0, world_size);
        EXPECT_EQ(pattern.CountWrong({result.data(), kCount, type}), 0) << test::Describe(type, op) << " ranks " << world_size;
        result[0] ^= 1;
        result[result.size() - 1] ^= 1;
        EXPECT_EQ(pattern.CountWrong({result.data(), kCount, type}), 2) << test::Describe(type, op) << " ranks " << world_size;
      }
    }
  }
}

TEST(Pattern, AMissingRankIsNoticed) {
  constexpr int64_t kCount = 100;
  std::vector<float> values(kCount);
  const Tensor tensor = MakeTensor(values.data(), kCount);
  const Pattern pattern(DataType::kFloat32, ReduceOp::kSum, 0, 2);
  pattern.Fill(tensor);
  EXPECT_EQ(pattern.CountWrong(tensor), kCount);
}

}  // namespace
}  // namespace muster::bench
