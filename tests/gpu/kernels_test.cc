// The CUDA kernels on a real GPU have the bits of the host.
#include <cstring>
#include <random>

#include "gmock/gmock.h"
#include "runtime/kernels/convert.h"
#include "runtime/kernels/reduce.h"
#include "runtime/kernels/tree.h"
#include "runtime/training/update.h"
#include "tests/gpu/real_gpu.h"
#include "tests/support/reference.h"

namespace muster::test {
namespace {

class GpuKernels : public OnGpu {};

std::vector<float> Uniform(size_t count, uint32_t seed, float low, float high) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(low, high);
  std::vector<float> floats(count);
  for (float& number : floats) number = uniform(random);
  return floats;
}

uint32_t Bits(float number) {
  uint32_t bits;
  std::memcpy(&bits, &number, sizeof(bits));
  return bits;
}

void ExpectSameBits(const std::vector<float>& actual, const std::vector<float>& expected, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_EQ(Bits(actual[i]), Bits(expected[i])) << what << ", element " << i << ": " << actual[i] << ", not " << expected[i];
  }
}

TEST_F(GpuKernels, UpdateWithTheBitsOfTheHost) {
  std::printf("kernels: %s\n", kernels_->Library());
  for (const bool momentum : {false, true}) {
    for (const OptimizerKind kind : {OptimizerKind::kSgd, OptimizerKind::kAdamW}) {
      OptimizerOptions options;
      options.kind = kind;
      if (!momentum) options.momentum = 0;
      for (const float range : {1.0f, 1e-20f, 1e15f}) {  // denormals and large numbers, too
        const size_t count = 100'003;
        const auto value = Uniform(count, 1, -range, range), gradient = Uniform(count, 2, -range, range);
        const auto first = Uniform(count, 3, -range, range), second = Uniform(count, 4, 0, range);
        std::vector<float> want(count), want_first(count), want_second(count);
        const UpdateNumbers numbers = NumbersOf(options, 7, 0.37f);
        muster::Update(numbers, static_cast<int64_t>(count), {gradient.data(), value.data(), {first.data(), second.data()}},
                       {want.data(), {want_first.data(), want_second.data()}});
        float* const new_value = Upload(std::vector<float>(count));
        float* const new_first = Upload(std::vector<float>(count));
        float* const new_second = Upload(std::vector<float>(count));
        ASSERT_EQ(kernels_->Update(numbers, static_cast<int64_t>(count),
                                   {Upload(gradient), Upload(value), {Upload(first), Upload(second)}},
                                   {new_value, {new_first, new_second}}, Queue()),
                  kDeviceKernelsOk);
        ExpectSameBits(Download(new_value, count), want, "value");
        if (MomentsOf(options) > 0) ExpectSameBits(Download(new_first, count), want_first, "first moment");
        if (MomentsOf(options) > 1) ExpectSameBits(Download(new_second, count), want_second, "second moment");
      }
    }
  }
}

TEST_F(GpuKernels, ReduceWithTheBitsOfTheHost) {
  constexpr int64_t kCount = 10'007;
  for (int type = 0; type < kDataTypes; ++type) {
    for (int op = 0; op < kReduceOps; ++op) {
      const auto data_type = static_cast<DataType>(type);
      const auto reduce_op = static_cast<ReduceOp>(op);
      if (!OpFitsType(reduce_op, data_type)) continue;
      for (const int sources : {1, 3, 8, 32}) {
        for (const bool special : {false, true}) {
          const ReducePlan plan = ReducePlan::ForLeaves(sources);
          std::vector<Bytes> vectors;
          std::vector<const void*> pointers;
          DeviceReduce call;
          for (int i = 0; i < sources; ++i) {
            vectors.push_back(special ? SpecialVector(9, i, data_type, kCount)
                                      : TestVector(9, i, data_type, reduce_op, kCount));
            call.sources[i] = Upload(vectors.back());
            call.merges[i] = plan.merges()[static_cast<size_t>(i)];
          }
          for (const Bytes& vector : vectors) pointers.push_back(vector.data());
          Bytes want(static_cast<size_t>(kCount * SizeOf(data_type)));
          void* const to = want.data();
          Reduce(plan, pointers, kCount, data_type, reduce_op, {&to, 1});
          auto* const result = Upload(Bytes(want.size()));
          call.sources_count = sources;
          call.type = data_type;
          call.op = reduce_op;
          call.divisor = plan.leaves();
          call.destination = result;
          call.count = kCount;
          ASSERT_EQ(kernels_->Reduce(call, Queue()), kDeviceKernelsOk);
          ASSERT_EQ(Download(result, want.size()), want)
              << Name(data_type) << " " << Name(reduce_op) << " of " << sources << (special ? ", special values" : "");
        }
      }
    }
  }
}

TEST_F(GpuKernels, ConvertWithTheBitsOfTheHost) {
  for (const DataType type : {DataType::kBFloat16, DataType::kFloat16}) {
    std::vector<uint16_t> halves(1 << 16);
    for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
    const auto count = static_cast<int64_t>(halves.size());
    std::vector<float> widened(halves.size());
    WidenToFloat32(type, halves.data(), widened.data(), count);
    float* const wide = Upload(std::vector<float>(halves.size()));
    ASSERT_EQ(kernels_->Widen(type, Upload(halves), wide, count, Queue()), kDeviceKernelsOk);
    ExpectSameBits(Download(wide, halves.size()), widened, Name(type));

    std::vector<float> floats(halves.size());
    std::mt19937 random(3);
    for (float& number : floats) {
      const auto bits = static_cast<uint32_t>(random());
      std::memcpy(&number, &bits, sizeof(bits));
    }
    std::vector<uint16_t> rounded(floats.size());
    RoundFromFloat32(type, floats.data(), rounded.data(), count);
    uint16_t* const round = Upload(std::vector<uint16_t>(floats.size()));
    ASSERT_EQ(kernels_->Round(type, Upload(floats), round, count, Queue()), kDeviceKernelsOk);
    EXPECT_EQ(Download(round, floats.size()), rounded) << Name(type);
  }
}

TEST_F(GpuKernels, SayWhatIsWrongWithACall) {
  const int code = kernels_->Divide(nullptr, 5, DataType::kInt32, 2, Queue());
  ASSERT_NE(code, kDeviceKernelsOk);
  char text[200] = {};
  kernels_->ErrorText(code, text, sizeof(text));
  EXPECT_THAT(std::string(text), testing::HasSubstr("cudaErrorInvalidValue"));
}

}  // namespace
}  // namespace muster::test
