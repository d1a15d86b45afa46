#include "runtime/kernels/reduce.h"

#include "runtime/base/log.h"
#include "runtime/kernels/convert.h"
#include "runtime/kernels/kernel_table.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <xmmintrin.h>
#else
#include <cfenv>
#endif

#if defined(__SANITIZE_THREAD__)
#define MUSTER_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MUSTER_THREAD_SANITIZER 1
#endif
#endif

namespace muster {
namespace {

static_assert(kDataTypes == kernels::kTypes && ReducePlan::kDepthMax == kernels::kDepthMax);

// Rounds to nearest and keeps denormals while it lives, whatever the calling thread has set: a program built with -ffast-math
// starts with denormals flushed to zero, and the communicator's own thread does not.
class DefaultArithmetic {
 public:
#if defined(__x86_64__)
  DefaultArithmetic() : before_(_mm_getcsr()) {
    if (const unsigned wanted = (before_ & ~kModes) | kMasked; wanted != before_) _mm_setcsr(wanted);
  }
  ~DefaultArithmetic() {
    if (((before_ & ~kModes) | kMasked) != before_) _mm_setcsr(before_);
  }

 private:
  static constexpr unsigned kModes = 0xe040;   // flush to zero, rounding control, denormals are zeros
  static constexpr unsigned kMasked = 0x1f80;  // all exceptions masked
  const unsigned before_;
#else
  DefaultArithmetic() {
    std::fegetenv(&before_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultArithmetic() { std::fesetenv(&before_); }

 private:
  std::fenv_t before_;
#endif
};

const kernels::KernelTable& TableOf(KernelIsa isa) {
#if defined(__x86_64__)
  if (isa == KernelIsa::kAvx512) return kernels::kAvx512Kernels;
  if (isa == KernelIsa::kAvx2) return kernels::kAvx2Kernels;
#endif
  return kernels::kPlainKernels;
}

int CombineOf(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
    case ReduceOp::kAvg:
      return 0;
    case ReduceOp::kMin:
      return 1;
    case ReduceOp::kMax:
      return 2;
    case ReduceOp::kProd:
      return 3;
  }
  return 0;
}

}  // namespace

bool IsSupported(KernelIsa isa) {
  if (isa == KernelIsa::kPlain) return true;
#if defined(__x86_64__)
  // These ask whether the operating system saves the wide registers, too; the compilers' lists lack F16C.
  if (isa == KernelIsa::kAvx512) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
  }
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __builtin_cpu_supports("avx2") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
#else
  return false;
#endif
}

KernelIsa BestKernelIsa() {
#if defined(MUSTER_THREAD_SANITIZER)
  return KernelIsa::kPlain;
#else
  static const KernelIsa best = IsSupported(KernelIsa::kAvx512) ? KernelIsa::kAvx512
                                : IsSupported(KernelIsa::kAvx2) ? KernelIsa::kAvx2
                                                                : KernelIsa::kPlain;
  return best;
#endif
}

void Reduce(const ReducePlan& plan, std::span<const void* const> sources, int64_t count, DataType type, ReduceOp op,
            std::span<void* const> destinations, KernelIsa isa) {
  MUSTER_CHECK(static_cast<int>(sources.size()) == plan.sources(), "as many sources as the plan has");
  MUSTER_CHECK(OpFitsType(op, type), "an average of integers does not exist");
  const DefaultArithmetic arithmetic;
  TableOf(isa).reduce[static_cast<int>(type)][CombineOf(op)]({.sources = sources.data(),
                                                              .merges = plan.merges().data(),
                                                              .destinations = destinations.data(),
                                                              .count = count,
                                                              .sources_count = plan.sources(),
                                                              .destinations_count = static_cast<int32_t>(destinations.size()),
                                                              .divisor = op == ReduceOp::kAvg ? plan.leaves() : 0,
                                                              .leaf_shaped = plan.leaf_shaped()});
}

void WidenToFloat32(DataType type, const void* source, float* destination, int64_t count, KernelIsa isa) {
  MUSTER_CHECK(type == DataType::kBFloat16 || type == DataType::kFloat16, "only 16-bit floats are widened");
  const DefaultArithmetic arithmetic;
  const kernels::KernelTable& table = TableOf(isa);
  (type == DataType::kBFloat16 ? table.widen_bfloat16 : table.widen_float16)(source, destination, count);
}

void RoundFromFloat32(DataType type, const float* source, void* destination, int64_t count, KernelIsa isa) {
  MUSTER_CHECK(type == DataType::kBFloat16 || type == DataType::kFloat16, "only 16-bit floats are rounded to");
  const DefaultArithmetic arithmetic;
  const kernels::KernelTable& table = TableOf(isa);
  (type == DataType::kBFloat16 ? table.round_bfloat16 : table.round_float16)(source, destination, count);
}

}  // namespace muster
