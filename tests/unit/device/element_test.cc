// The arithmetic of the CUDA kernels, compiled for the host, has the bits of runtime/kernels.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "runtime/device/cuda/element_body.h"
#include "runtime/kernels/convert.h"
#include "runtime/kernels/reduce.h"
#include "runtime/kernels/tree.h"
#include "tests/support/reference.h"

namespace muster::test {
namespace {

Bytes ReduceElements(const DeviceReduce& call) {
  Bytes result(static_cast<size_t>(call.count * SizeOf(call.type)));
  device::WithFormat(call.type, [&](auto format) {
    device::WithOp(call.op, [&](auto op) {
      using Format = decltype(format);
      for (int64_t i = 0; i < call.count; ++i) {
        const auto element = device::ReducedElement<Format, decltype(op)>(call, i);
        std::memcpy(result.data() + i * static_cast<int64_t>(sizeof(element)), &element, sizeof(element));
      }
    });
  });
  return result;
}

DeviceReduce CallOf(const ReducePlan& plan, const std::vector<Bytes>& sources, int64_t count, DataType type, ReduceOp op) {
  DeviceReduce call;
  call.sources_count = plan.sources();
  for (int i = 0; i < plan.sources(); ++i) {
    call.sources[i] = sources[static_cast<size_t>(i)].data();
    call.merges[i] = plan.merges()[static_cast<size_t>(i)];
  }
  call.type = type;
  call.op = op;
  call.divisor = plan.leaves();
  call.count = count;
  return call;
}

Bytes ReduceOnHost(const ReducePlan& plan, const std::vector<Bytes>& sources, int64_t count, DataType type, ReduceOp op) {
  Bytes result(static_cast<size_t>(count * SizeOf(type)));
  std::vector<const void*> pointers;
  for (const Bytes& source : sources) pointers.push_back(source.data());
  void* const destination = result.data();
  Reduce(plan, pointers, count, type, op, {&destination, 1}, KernelIsa::kPlain);
  return result;
}

TEST(DeviceElements, ReduceWithTheBitsOfTheHost) {
  constexpr int64_t kCount = 61;
  for (int type = 0; type < kDataTypes; ++type) {
    for (int op = 0; op < kReduceOps; ++op) {
      const auto data_type = static_cast<DataType>(type);
      const auto reduce_op = static_cast<ReduceOp>(op);
      if (!OpFitsType(reduce_op, data_type)) continue;
      for (const int sources : {1, 2, 3, 5, 8, 13, 32}) {
        const ReducePlan plan = ReducePlan::ForLeaves(sources);
        for (const bool special : {false, true}) {
          std::vector<Bytes> vectors;
          for (int i = 0; i < sources; ++i) {
            vectors.push_back(special ? SpecialVector(7, i, data_type, kCount)
                                      : TestVector(7, i, data_type, reduce_op, kCount));
          }
          EXPECT_EQ(ReduceElements(CallOf(plan, vectors, kCount, data_type, reduce_op)),
                    ReduceOnHost(plan, vectors, kCount, data_type, reduce_op))
              << Name(data_type) << " " << Name(reduce_op) << " of " << sources << (special ? ", special values" : "");
        }
      }
    }
  }
}

// A rank's own partials are unequal subtrees.
TEST(DeviceElements, ReducePartialsOfEveryRank) {
  constexpr int64_t kCount = 9;
  for (const int32_t shards : {7, 8, 13}) {
    for (int32_t world_size = 1; world_size <= shards; ++world_size) {
      for (int32_t rank = 0; rank < world_size; ++rank) {
        const std::vector<Partial> partials = OwnedPartials(shards, world_size, rank);
        const ReducePlan plan = ReducePlan::ForPartials(partials);
        std::vector<Bytes> vectors;
        for (size_t i = 0; i < partials.size(); ++i) {
          vectors.push_back(TestVector(3, static_cast<int>(i), DataType::kFloat32, ReduceOp::kSum, kCount));
        }
        EXPECT_EQ(ReduceElements(CallOf(plan, vectors, kCount, DataType::kFloat32, ReduceOp::kSum)),
                  ReduceOnHost(plan, vectors, kCount, DataType::kFloat32, ReduceOp::kSum));
      }
    }
  }
}

template <class Format>
void ExpectWidensAndRoundsLikeTheHost(DataType type) {
  std::vector<uint16_t> halves(1 << 16);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  std::vector<float> widened(halves.size());
  WidenToFloat32(type, halves.data(), widened.data(), static_cast<int64_t>(halves.size()), KernelIsa::kPlain);
  for (size_t i = 0; i < halves.size(); ++i) {
    ASSERT_EQ(device::BitCast<uint32_t>(device::QuietNan(Format::Load(halves[i]))), device::BitCast<uint32_t>(widened[i])) << i;
  }
  // Every number between two neighbours that matters: exact, just below and above the middle, and the middle.
  std::vector<float> floats;
  for (const float value : widened) {
    const auto bits = device::BitCast<uint32_t>(value);
    for (const uint32_t offset : {0u, 1u, 0xfffu, 0x1000u, 0x1001u, 0x7fffu, 0x8000u, 0x8001u}) {
      floats.push_back(device::BitCast<float>(bits + offset));
      floats.push_back(device::BitCast<float>(bits - offset));
    }
  }
  std::mt19937 random(17);
  for (int i = 0; i < 200'000; ++i) floats.push_back(device::BitCast<float>(static_cast<uint32_t>(random())));
  std::vector<uint16_t> rounded(floats.size());
  RoundFromFloat32(type, floats.data(), rounded.data(), static_cast<int64_t>(floats.size()), KernelIsa::kPlain);
  for (size_t i = 0; i < floats.size(); ++i) {
    ASSERT_EQ(Format::Store(device::QuietNan(floats[i])), rounded[i]) << device::BitCast<uint32_t>(floats[i]);
  }
}

TEST(DeviceElements, ConvertBFloat16LikeTheHost) { ExpectWidensAndRoundsLikeTheHost<device::BFloat16>(DataType::kBFloat16); }
TEST(DeviceElements, ConvertFloat16LikeTheHost) { ExpectWidensAndRoundsLikeTheHost<device::Float16>(DataType::kFloat16); }

// The division of an average that another library has summed.
TEST(DeviceElements, DivideLikeAnAverage) {
  for (const DataType type : {DataType::kFloat32, DataType::kFloat64, DataType::kBFloat16, DataType::kFloat16}) {
    const Bytes one = TestVector(5, 0, type, ReduceOp::kSum, 40);
    DeviceReduce call;
    call.sources[0] = one.data();
    call.sources_count = 1;
    call.type = type;
    call.op = ReduceOp::kAvg;
    call.divisor = 3;
    call.count = 40;
    const Bytes expected = ReduceElements(call);
    device::WithFormat(type, [&](auto format) {
      using Format = decltype(format);
      if constexpr (device::BitsOf<typename Format::Compute>::kIsFloat) {
        for (int64_t i = 0; i < 40; ++i) {
          typename Format::Stored stored, want;
          std::memcpy(&stored, one.data() + i * static_cast<int64_t>(sizeof(stored)), sizeof(stored));
          std::memcpy(&want, expected.data() + i * static_cast<int64_t>(sizeof(want)), sizeof(want));
          const auto divided = device::DividedElement<Format>(stored, 3);
          EXPECT_EQ(std::memcmp(&divided, &want, sizeof(want)), 0) << Name(type) << " " << i;
        }
      }
    });
  }
}

}  // namespace
}  // namespace muster::test
