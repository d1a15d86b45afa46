#include "runtime/training/update.h"

#include <cmath>

namespace muster {
namespace {

// base^exponent without the math library, whose last bit differs between versions.
double Power(double base, int64_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent >>= 1, base *= base) {
    if (exponent & 1) result *= base;
  }
  return result;
}

void UpdateSgd(const OptimizerOptions& options, float rate, float scale, int64_t count, const UpdateInput& input,
               const UpdateOutput& output) {
  const float decay = static_cast<float>(options.weight_decay);
  const float momentum = static_cast<float>(options.momentum);
  const float* __restrict gradient = input.gradient;
  const float* __restrict value = input.value;
  const float* __restrict velocity = input.moment[0];
  float* __restrict new_value = output.value;
  float* __restrict new_velocity = output.moment[0];
  if (velocity == nullptr) {
    for (int64_t i = 0; i < count; ++i) new_value[i] = value[i] - rate * (gradient[i] * scale + decay * value[i]);
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const float moved = momentum * velocity[i] + (gradient[i] * scale + decay * value[i]);
    new_velocity[i] = moved;
    new_value[i] = value[i] - rate * moved;
  }
}

void UpdateAdamW(const OptimizerOptions& options, int64_t step, float rate, float scale, int64_t count,
                 const UpdateInput& input, const UpdateOutput& output) {
  const float beta1 = static_cast<float>(options.beta1);
  const float beta2 = static_cast<float>(options.beta2);
  const float rest1 = static_cast<float>(1 - options.beta1);
  const float rest2 = static_cast<float>(1 - options.beta2);
  const float unbias1 = static_cast<float>(1 / (1 - Power(options.beta1, step + 1)));
  const float unbias2 = static_cast<float>(1 / (1 - Power(options.beta2, step + 1)));
  const float epsilon = static_cast<float>(options.epsilon);
  const float decay = static_cast<float>(options.weight_decay);
  const float* __restrict gradient = input.gradient;
  const float* __restrict value = input.value;
  const float* __restrict first = input.moment[0];
  const float* __restrict second = input.moment[1];
  float* __restrict new_value = output.value;
  float* __restrict new_first = output.moment[0];
  float* __restrict new_second = output.moment[1];
  for (int64_t i = 0; i < count; ++i) {
    const float g = gradient[i] * scale;
    const float m = beta1 * first[i] + rest1 * g;
    const float v = beta2 * second[i] + rest2 * (g * g);
    new_first[i] = m;
    new_second[i] = v;
    new_value[i] = value[i] - rate * (m * unbias1 / (std::sqrt(v * unbias2) + epsilon) + decay * value[i]);
  }
}

}  // namespace

int MomentsOf(const OptimizerOptions& options) {
  if (options.kind == OptimizerKind::kAdamW) return 2;
  return options.momentum != 0 ? 1 : 0;
}

void Update(const OptimizerOptions& options, int64_t step, float gradient_scale, int64_t count, const UpdateInput& input,
            const UpdateOutput& output) {
  const double factor = options.rate_factor ? options.rate_factor(step) : 1.0;
  const float rate = static_cast<float>(options.learning_rate * factor);
  switch (options.kind) {
    case OptimizerKind::kSgd:
      return UpdateSgd(options, rate, gradient_scale, count, input, output);
    case OptimizerKind::kAdamW:
      return UpdateAdamW(options, step, rate, gradient_scale, count, input, output);
  }
}

}  // namespace muster
