#include "runtime/kernels/convert.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>

#include "tests/support/reference.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace muster {
namespace {

class Convert : public testing::TestWithParam<std::tuple<KernelIsa, DataType>> {
 protected:
  void SetUp() override {
    if (!IsSupported(isa())) GTEST_SKIP() << "this processor has no " << Name(isa());
  }
  KernelIsa isa() const { return std::get<0>(GetParam()); }
  DataType type() const { return std::get<1>(GetParam()); }

  void ExpectRounds(const std::vector<float>& values) {
    std::vector<uint16_t> rounded(values.size());
    RoundFromFloat32(type(), values.data(), rounded.data(), static_cast<int64_t>(values.size()), isa());
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(rounded[i], test::RoundScalar(type(), values[i])) << std::hexfloat << values[i];
    }
  }
};

INSTANTIATE_TEST_SUITE_P(All, Convert,
                         testing::Combine(testing::Values(KernelIsa::kPlain, KernelIsa::kAvx2, KernelIsa::kAvx512),
                                          testing::Values(DataType::kBFloat16, DataType::kFloat16)),
                         [](const auto& info) {
                           return std::string(Name(std::get<0>(info.param))) + "_" + Name(std::get<1>(info.param));
                         });

TEST_P(Convert, WidensAllValues) {
  std::vector<uint16_t> all(65536);
  for (int i = 0; i < 65536; ++i) all[i] = static_cast<uint16_t>(i);
  std::vector<float> wide(all.size());
  WidenToFloat32(type(), all.data(), wide.data(), 65536, isa());
  for (int i = 0; i < 65536; ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(wide[i]), std::bit_cast<uint32_t>(test::WidenScalar(type(), all[i]))) << i;
  }
}

// Every 16-bit value, the float next to it on each side, and the halfway points between neighbours with theirs.
TEST_P(Convert, RoundsAroundAllValues) {
  std::vector<float> values;
  for (int i = 0; i < 65536; ++i) {
    const float value = test::WidenScalar(type(), static_cast<uint16_t>(i));
    const float next = test::WidenScalar(type(), static_cast<uint16_t>(i + 1));
    for (const float centre : {value, value / 2 + next / 2}) {
      values.push_back(centre);
      values.push_back(std::nextafter(centre, -INFINITY));
      values.push_back(std::nextafter(centre, INFINITY));
    }
  }
  ExpectRounds(values);
}

TEST_P(Convert, RoundsRandomBits) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  std::vector<float> values(200001);
  for (float& value : values) value = std::bit_cast<float>(static_cast<uint32_t>(random()));
  ExpectRounds(values);
}

TEST_P(Convert, EveryLengthLeavesTheRestAlone) {
  for (int count = 0; count <= 70; ++count) {
    std::vector<float> values(count);
    for (int i = 0; i < count; ++i) values[i] = static_cast<float>(i) + 0.25f;
    std::vector<uint16_t> rounded(count + 1, 0xabcd);
    RoundFromFloat32(type(), values.data(), rounded.data(), count, isa());
    std::vector<float> wide(count + 1, -7);
    WidenToFloat32(type(), rounded.data(), wide.data(), count, isa());
    for (int i = 0; i < count; ++i) ASSERT_EQ(wide[i], test::WidenScalar(type(), test::RoundScalar(type(), values[i])));
    ASSERT_EQ(rounded[count], 0xabcd);
    ASSERT_EQ(wide[count], -7);
  }
}

#if defined(__x86_64__)
// A caller built with -ffast-math runs with denormals flushed and may have changed the rounding; the bits must not follow.
TEST_P(Convert, IgnoresTheThreadsFloatingPointModes) {
  const float tiny = std::ldexp(1.0f, -140);
  const float odd = 1.0f + std::ldexp(1.0f, -9) + std::ldexp(1.0f, -12);
  const float values[2] = {tiny, odd};
  uint16_t expected[2], rounded[2];
  for (int i = 0; i < 2; ++i) expected[i] = test::RoundScalar(type(), values[i]);
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040 | 0x4000);  // flush to zero, denormals are zeros, round up
  const unsigned during = _mm_getcsr();
  RoundFromFloat32(type(), values, rounded, 2, isa());
  const unsigned after = _mm_getcsr();
  _mm_setcsr(before);
  EXPECT_EQ(after, during);
  EXPECT_EQ(rounded[0], expected[0]);
  EXPECT_EQ(rounded[1], expected[1]);
}
#endif

}  // namespace
}  // namespace muster
