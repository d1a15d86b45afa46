#include "runtime/training/update.h"

namespace muster {
namespace {

using kernels::UpdatedElement;
using kernels::UpdateKind;

// base^exponent without the math library, whose last bit differs between versions.
double Power(double base, int64_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent >>= 1, base *= base) {
    if (exponent & 1) result *= base;
  }
  return result;
}

// GCC vectorises these because the pointers are parameters that cannot overlap, and `numbers` is a copy that no store can change.
void UpdateAllSgd(const UpdateNumbers numbers, int64_t count, const float* __restrict gradient, const float* __restrict value,
                  float* __restrict new_value) {
  for (int64_t i = 0; i < count; ++i) new_value[i] = kernels::UpdateSgd(numbers, gradient[i], value[i]).value;
}

void UpdateAllMomentum(const UpdateNumbers numbers, int64_t count, const float* __restrict gradient,
                       const float* __restrict value, const float* __restrict velocity, float* __restrict new_value,
                       float* __restrict new_velocity) {
  for (int64_t i = 0; i < count; ++i) {
    const UpdatedElement updated = kernels::UpdateMomentum(numbers, gradient[i], value[i], velocity[i]);
    new_velocity[i] = updated.moment[0];
    new_value[i] = updated.value;
  }
}

void UpdateAllAdamW(const UpdateNumbers numbers, int64_t count, const float* __restrict gradient, const float* __restrict value,
                    const float* __restrict first, const float* __restrict second, float* __restrict new_value,
                    float* __restrict new_first, float* __restrict new_second) {
  for (int64_t i = 0; i < count; ++i) {
    const UpdatedElement updated = kernels::UpdateAdamW(numbers, gradient[i], value[i], first[i], second[i]);
    new_first[i] = updated.moment[0];
    new_second[i] = updated.moment[1];
    new_value[i] = updated.value;
  }
}

}  // namespace

int MomentsOf(const OptimizerOptions& options) {
  if (options.kind == OptimizerKind::kAdamW) return 2;
  return options.momentum != 0 ? 1 : 0;
}

UpdateNumbers NumbersOf(const OptimizerOptions& options, int64_t step, float gradient_scale) {
  const double factor = options.rate_factor ? options.rate_factor(step) : 1.0;
  UpdateNumbers numbers;
  numbers.rate = static_cast<float>(options.learning_rate * factor);
  numbers.scale = gradient_scale;
  numbers.decay = static_cast<float>(options.weight_decay);
  if (options.kind == OptimizerKind::kSgd) {
    numbers.kind = MomentsOf(options) == 0 ? UpdateKind::kSgd : UpdateKind::kMomentum;
    numbers.momentum = static_cast<float>(options.momentum);
    return numbers;
  }
  numbers.kind = UpdateKind::kAdamW;
  numbers.beta1 = static_cast<float>(options.beta1);
  numbers.beta2 = static_cast<float>(options.beta2);
  numbers.rest1 = static_cast<float>(1 - options.beta1);
  numbers.rest2 = static_cast<float>(1 - options.beta2);
  numbers.unbias1 = static_cast<float>(1 / (1 - Power(options.beta1, step + 1)));
  numbers.unbias2 = static_cast<float>(1 / (1 - Power(options.beta2, step + 1)));
  numbers.epsilon = static_cast<float>(options.epsilon);
  return numbers;
}

void Update(const UpdateNumbers& numbers, int64_t count, const UpdateInput& input, const UpdateOutput& output) {
  switch (numbers.kind) {
    case UpdateKind::kSgd:
      return UpdateAllSgd(numbers, count, input.gradient, input.value, output.value);
    case UpdateKind::kMomentum:
      return UpdateAllMomentum(numbers, count, input.gradient, input.value, input.moment[0], output.value, output.moment[0]);
    case UpdateKind::kAdamW:
      return UpdateAllAdamW(numbers, count, input.gradient, input.value, input.moment[0], input.moment[1], output.value,
                            output.moment[0], output.moment[1]);
  }
}

}  // namespace muster
