#include "runtime/training/update.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace muster {
namespace {

using Floats = std::vector<float>;

Floats Random(int64_t count, uint32_t seed, float low, float high) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(low, high);
  Floats floats(count);
  for (float& number : floats) number = uniform(random);
  return floats;
}

void ExpectNear(const Floats& actual, const std::vector<double>& expected) {
  for (size_t i = 0; i < actual.size(); ++i)
    EXPECT_NEAR(actual[i], expected[i], 2e-6 * std::max(1.0, std::abs(expected[i]))) << i;
}

TEST(Update, SgdWithMomentumFollowsThePlainFormula) {
  OptimizerOptions options;
  options.kind = OptimizerKind::kSgd;
  options.learning_rate = 0.1;
  options.momentum = 0.9;
  options.weight_decay = 0.05;
  ASSERT_EQ(MomentsOf(options), 1);
  const int64_t count = 131;
  Floats value = Random(count, 1, -1, 1), velocity(count, 0.0f);
  std::vector<double> want_value(value.begin(), value.end()), want_velocity(count, 0.0);
  for (int64_t step = 0; step < 20; ++step) {
    const Floats gradient = Random(count, 100 + step, -2, 2);
    Floats new_value(count), new_velocity(count);
    Update(NumbersOf(options, step, 0.5f), count, {gradient.data(), value.data(), {velocity.data(), nullptr}},
           {new_value.data(), {new_velocity.data(), nullptr}});
    for (int64_t i = 0; i < count; ++i) {
      want_velocity[i] = 0.9 * want_velocity[i] + gradient[i] * 0.5 + 0.05 * want_value[i];
      want_value[i] -= 0.1 * want_velocity[i];
    }
    value = new_value, velocity = new_velocity;
  }
  ExpectNear(value, want_value);
  ExpectNear(velocity, want_velocity);
}

TEST(Update, PlainSgdKeepsNoMoment) {
  OptimizerOptions options;
  options.kind = OptimizerKind::kSgd;
  options.learning_rate = 0.5;
  options.momentum = 0;
  options.weight_decay = 0;
  options.rate_factor = [](int64_t step) { return step == 3 ? 0.5 : 1.0; };
  ASSERT_EQ(MomentsOf(options), 0);
  const Floats value = {1, 2, 3}, gradient = {4, -8, 0};
  Floats out(3);
  Update(NumbersOf(options, 3, 0.25f), 3, {gradient.data(), value.data(), {}}, {out.data(), {}});
  EXPECT_EQ(out, (Floats{0.75f, 2.5f, 3.0f}));
}

TEST(Update, AdamWFollowsThePlainFormula) {
  OptimizerOptions options;
  options.learning_rate = 0.01;
  options.weight_decay = 0.1;
  ASSERT_EQ(MomentsOf(options), 2);
  const int64_t count = 77;
  Floats value = Random(count, 2, -1, 1), first(count, 0.0f), second(count, 0.0f);
  std::vector<double> want(value.begin(), value.end()), m(count, 0.0), v(count, 0.0);
  for (int64_t step = 0; step < 30; ++step) {
    const Floats gradient = Random(count, 200 + step, -3, 3);
    Floats new_value(count), new_first(count), new_second(count);
    Update(NumbersOf(options, step, 0.25f), count, {gradient.data(), value.data(), {first.data(), second.data()}},
           {new_value.data(), {new_first.data(), new_second.data()}});
    for (int64_t i = 0; i < count; ++i) {
      const double g = gradient[i] * 0.25;
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.999 * v[i] + 0.001 * g * g;
      const double unbiased_m = m[i] / (1 - std::pow(0.9, step + 1)), unbiased_v = v[i] / (1 - std::pow(0.999, step + 1));
      want[i] -= 0.01 * (unbiased_m / (std::sqrt(unbiased_v) + 1e-8) + 0.1 * want[i]);
    }
    value = new_value, first = new_first, second = new_second;
  }
  ExpectNear(value, want);
}

// A vectorised loop has a scalar tail: an element's bits must not depend on where it stands or how many there are.
TEST(Update, BitsDoNotDependOnThePlaceInTheTensor) {
  for (const OptimizerKind kind : {OptimizerKind::kSgd, OptimizerKind::kAdamW}) {
    OptimizerOptions options;
    options.kind = kind;
    const Floats value = Random(67, 3, -1, 1), gradient = Random(67, 4, -1, 1), first = Random(67, 5, -1, 1),
                 second = Random(67, 6, 0, 1);
    Floats whole(67), m(67), v(67);
    Update(NumbersOf(options, 9, 0.3f), 67, {gradient.data(), value.data(), {first.data(), second.data()}},
           {whole.data(), {m.data(), v.data()}});
    for (int64_t i = 0; i < 67; ++i) {
      float one, one_m, one_v;
      Update(NumbersOf(options, 9, 0.3f), 1, {&gradient[i], &value[i], {&first[i], &second[i]}}, {&one, {&one_m, &one_v}});
      EXPECT_EQ(one, whole[i]);
      EXPECT_EQ(one_m, m[i]);
    }
  }
}

}  // namespace
}  // namespace muster
