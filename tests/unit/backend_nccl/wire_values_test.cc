#include "runtime/backend/nccl/wire_values.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "tests/support/reference.h"
#include "tests/support/seeds.h"

namespace muster::test {
namespace {

// Minimum or maximum of integers, as NCCL has them.
template <typename Int>
void Extreme(ReduceOp op, Bytes& a, const Bytes& b) {
  for (size_t i = 0; i < a.size(); i += sizeof(Int)) {
    Int x, y;
    std::memcpy(&x, &a[i], sizeof x);
    std::memcpy(&y, &b[i], sizeof y);
    x = op == ReduceOp::kMin ? std::min(x, y) : std::max(x, y);
    std::memcpy(&a[i], &x, sizeof x);
  }
}

TEST(WireValues, MinimaAndMaximaOfIntegersAreThoseOfTheFloats) {
  for (const DataType type : {DataType::kFloat32, DataType::kFloat64}) {
    for (const ReduceOp op : {ReduceOp::kMin, ReduceOp::kMax}) {
      std::vector<Bytes> ranks;
      for (int rank = 0; rank < 5; ++rank) ranks.push_back(SpecialVector(17, rank, type, 2000));
      std::vector<Bytes> wire = ranks;
      for (Bytes& values : wire) EncodeForWire(type, op, values.data(), 2000);
      for (int rank = 1; rank < 5; ++rank) {
        type == DataType::kFloat32 ? Extreme<int32_t>(op, wire[0], wire[rank]) : Extreme<int64_t>(op, wire[0], wire[rank]);
      }
      DecodeFromWire(type, op, 5, wire[0].data(), 2000);
      EXPECT_EQ(Difference(ReferenceAllReduce(ranks, type, op), wire[0].data(), type), "") << Describe(type, op);
    }
  }
}

TEST(WireValues, WhatTravels) {
  EXPECT_EQ(WireOf(DataType::kBFloat16, ReduceOp::kAvg).type, DataType::kFloat32);
  EXPECT_EQ(WireOf(DataType::kBFloat16, ReduceOp::kAvg).op, ReduceOp::kSum);
  EXPECT_EQ(WireOf(DataType::kFloat16, ReduceOp::kMax).type, DataType::kInt32);
  EXPECT_EQ(WireOf(DataType::kFloat64, ReduceOp::kMin).type, DataType::kInt64);
  EXPECT_EQ(WireOf(DataType::kInt32, ReduceOp::kMin).type, DataType::kInt32);
  EXPECT_EQ(WireOf(DataType::kUint8, ReduceOp::kProd).op, ReduceOp::kProd);
}

}  // namespace
}  // namespace muster::test
