// Arrays of 16-bit floats to float32 and back.
#ifndef MUSTER_RUNTIME_KERNELS_CONVERT_H_
#define MUSTER_RUNTIME_KERNELS_CONVERT_H_

#include <cstdint>

#include "muster/tensor.h"
#include "runtime/kernels/reduce.h"

namespace muster {

// Widens `count` values of `type` (kBFloat16 or kFloat16) exactly. Every NaN becomes the quiet NaN with a zero payload and no
// sign. Any alignment; the arrays must not overlap.
void WidenToFloat32(DataType type, const void* source, float* destination, int64_t count, KernelIsa isa = BestKernelIsa());

// Rounds `count` values to `type` (kBFloat16 or kFloat16), to nearest even; beyond the largest finite value to infinity,
// denormals are kept. NaN and alignment as above.
void RoundFromFloat32(DataType type, const float* source, void* destination, int64_t count, KernelIsa isa = BestKernelIsa());

}  // namespace muster

#endif  // MUSTER_RUNTIME_KERNELS_CONVERT_H_
