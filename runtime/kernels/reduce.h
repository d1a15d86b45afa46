// Element-wise reduction of several arrays in one pass over memory, with the same bits on every processor.
#ifndef MUSTER_RUNTIME_KERNELS_REDUCE_H_
#define MUSTER_RUNTIME_KERNELS_REDUCE_H_

#include <cstdint>
#include <span>

#include "muster/tensor.h"
#include "runtime/kernels/tree.h"

namespace muster {

// Instruction sets with a kernel of their own. All give the same bits.
enum class KernelIsa { kPlain = 0, kAvx2 = 1, kAvx512 = 2 };  // kAvx2 needs F16C too; kAvx512 needs F, BW, DQ and VL
inline constexpr int kKernelIsas = 3;

// Whether this processor and kernel can run it. kPlain always can.
bool IsSupported(KernelIsa isa);

// The fastest supported one, found once. Under the thread sanitizer it is kPlain, whose accesses the sanitizer sees.
KernelIsa BestKernelIsa();

constexpr const char* Name(KernelIsa isa) {
  return isa == KernelIsa::kAvx512 ? "avx512" : isa == KernelIsa::kAvx2 ? "avx2" : "plain";
}

// False for kAvg on integers, the one combination that does not exist.
constexpr bool OpFitsType(ReduceOp op, DataType type) { return op != ReduceOp::kAvg || !IsInteger(type); }

// destination[i] = op over all sources[.][i] in the plan's order, for 0 <= i < count, in each of `destinations`. The values'
// rules are those of ReduceOp: 16-bit floats are combined as float32 and rounded once, to nearest even; kAvg divides by
// plan.leaves(). The calling thread's rounding and denormal modes have no influence.
//
// Memory: any alignment, 64 bytes is fast. A destination may be exactly one of the sources (the pass then works in place: every
//         load of an element comes before every store to it); any other overlap is undefined.
// Needs:  sources.size() == plan.sources(), OpFitsType(op, type), count >= 0, IsSupported(isa). `destinations` may be empty.
// Cost:   one pass: each source element is loaded once, each destination element stored once. Sums over up to 8 sources of a
//         leaf-shaped plan (4 for other ops) stay in registers; all else goes through blocks that fit the first-level cache.
void Reduce(const ReducePlan& plan, std::span<const void* const> sources, int64_t count, DataType type, ReduceOp op,
            std::span<void* const> destinations, KernelIsa isa = BestKernelIsa());

}  // namespace muster

#endif  // MUSTER_RUNTIME_KERNELS_REDUCE_H_
