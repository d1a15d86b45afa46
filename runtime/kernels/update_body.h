// The arithmetic of an optimizer update of one element, the same for processors and GPUs.
//
// Plain types only, as in kernel_table.h: nvcc reads this, too. Nothing here may be contracted to fused multiply-adds: it is compiled
// with -ffp-contract=off, and with -fmad=false by nvcc.
#ifndef MUSTER_RUNTIME_KERNELS_UPDATE_BODY_H_
#define MUSTER_RUNTIME_KERNELS_UPDATE_BODY_H_

#include <math.h>
#include <stdint.h>

#if defined(__CUDACC__)
#define MUSTER_ON_ANY __host__ __device__
#else
#define MUSTER_ON_ANY
#endif

namespace muster::kernels {

enum class UpdateKind : int32_t { kSgd = 0, kMomentum = 1, kAdamW = 2 };

// What is the same for all elements of a step; muster/optimizer.h has the meaning. What a kind does not use is 0.
struct UpdateNumbers {
  UpdateKind kind = UpdateKind::kSgd;
  float rate = 0;
  float scale = 0;  // the gradient is multiplied by it first
  float decay = 0;
  float momentum = 0;
  float beta1 = 0;
  float beta2 = 0;
  float rest1 = 0;    // 1 - beta1
  float rest2 = 0;    // 1 - beta2
  float unbias1 = 0;  // 1 / (1 - beta1^(step + 1))
  float unbias2 = 0;
  float epsilon = 0;
};

// Where a parameter's numbers are read from and written to; moments that the kind does not keep are null.
struct UpdateInput {
  const float* gradient = nullptr;  // sum over the global batch
  const float* value = nullptr;
  const float* moment[2] = {nullptr, nullptr};
};
struct UpdateOutput {
  float* value = nullptr;
  float* moment[2] = {nullptr, nullptr};
};

struct UpdatedElement {
  float value = 0;
  float moment[2] = {0, 0};
};

MUSTER_ON_ANY inline UpdatedElement UpdateSgd(const UpdateNumbers& n, float gradient, float value) {
  return {value - n.rate * (gradient * n.scale + n.decay * value), {0, 0}};
}

MUSTER_ON_ANY inline UpdatedElement UpdateMomentum(const UpdateNumbers& n, float gradient, float value, float velocity) {
  const float moved = n.momentum * velocity + (gradient * n.scale + n.decay * value);
  return {value - n.rate * moved, {moved, 0}};
}

MUSTER_ON_ANY inline UpdatedElement UpdateAdamW(const UpdateNumbers& n, float gradient, float value, float first,
                                                float second) {
  const float g = gradient * n.scale;
  const float m = n.beta1 * first + n.rest1 * g;
  const float v = n.beta2 * second + n.rest2 * (g * g);
  return {value - n.rate * (m * n.unbias1 / (sqrtf(v * n.unbias2) + n.epsilon) + n.decay * value), {m, v}};
}

}  // namespace muster::kernels

#endif  // MUSTER_RUNTIME_KERNELS_UPDATE_BODY_H_
