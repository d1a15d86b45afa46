// Between dispatch and the kernels of one instruction set. Internal to this room.
//
// Plain types only: the kernel files are compiled for processors that the rest of the program may not run on, so nothing that
// the linker could share with other files (an inline function, a template of the standard library) may come in through here.
#ifndef MUSTER_RUNTIME_KERNELS_KERNEL_TABLE_H_
#define MUSTER_RUNTIME_KERNELS_KERNEL_TABLE_H_

#include <stdint.h>

namespace muster::kernels {

struct ReduceCall {
  const void* const* sources;
  const uint8_t* merges;  // ReducePlan::merges()
  void* const* destinations;
  int64_t count;  // elements
  int32_t sources_count;
  int32_t destinations_count;
  int32_t divisor;   // 0: do not divide
  bool leaf_shaped;  // ReducePlan::leaf_shaped()
};

using ReduceFunction = void (*)(const ReduceCall& call);
using WidenFunction = void (*)(const void* source, float* destination, int64_t count);
using RoundFunction = void (*)(const float* source, void* destination, int64_t count);

inline constexpr int kCombines = 4;  // sum, min, max, prod; avg is sum with a divisor
inline constexpr int kTypes = 7;     // in the order of DataType
inline constexpr int kDepthMax = 13;

struct KernelTable {
  ReduceFunction reduce[kTypes][kCombines];
  WidenFunction widen_bfloat16;
  WidenFunction widen_float16;
  RoundFunction round_bfloat16;
  RoundFunction round_float16;
};

extern const KernelTable kPlainKernels;
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;

}  // namespace muster::kernels

#endif  // MUSTER_RUNTIME_KERNELS_KERNEL_TABLE_H_
