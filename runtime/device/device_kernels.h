// Element-wise work on device memory. libmuster_cuda.so implements it with kernels for NVIDIA GPUs, tests on the host.
#ifndef MUSTER_RUNTIME_DEVICE_DEVICE_KERNELS_H_
#define MUSTER_RUNTIME_DEVICE_DEVICE_KERNELS_H_

#include <stddef.h>
#include <stdint.h>

#include "muster/tensor.h"
#include "runtime/kernels/update_body.h"

namespace muster {

// A reduction along the plan's steps, as in runtime/kernels/tree.h: source i is pushed on a stack, then the two topmost values are
// merged merges[i] times, the older one as the left operand. One value must remain.
inline constexpr int kDeviceSourcesMax = 32;  // more than the partials of any rank, and than the levels of any fold
inline constexpr int kDeviceDepthMax = 13;    // of the stack; ReducePlan::kDepthMax
struct DeviceReduce {
  const void* sources[kDeviceSourcesMax] = {};
  uint8_t merges[kDeviceSourcesMax] = {};
  int32_t sources_count = 0;  // at least 1
  DataType type = DataType::kFloat32;
  ReduceOp op = ReduceOp::kSum;  // kAvg: the sum, divided by `divisor`
  int32_t divisor = 1;           // of kAvg
  void* destination = nullptr;   // may be one of the sources; apart from that nothing overlaps
  int64_t count = 0;             // elements
};

// Where work is queued. A library with a copy of the CUDA runtime of its own, as libmuster_cuda.so is, does not see which device
// another copy has made current, hence both.
struct DeviceQueue {
  int device = 0;
  void* stream = nullptr;  // a cudaStream_t of that device; null: its default stream
};

// Crosses a dlopen: no type of CUDA, abseil or the standard library in it, and kDeviceKernelsVersion counts its changes.
//
// Each method queues its work, makes that device the calling thread's current one, and returns a code: kDeviceKernelsOk, or CUDA's,
// which ErrorText turns into words. Pointers are to device memory, aligned to the type. A count of 0 does nothing. Any thread.
//
// Bits: those of the host, NaN's sign and payload in Update excepted: every operation is rounded by itself (no contraction, division
// and square root correctly rounded, denormals kept). tests/unit/device compares the arithmetic, compiled for the host, with
// runtime/kernels; scripts/gpu-check compares the kernels with it on a GPU.
inline constexpr int kDeviceKernelsVersion = 1;
inline constexpr int kDeviceKernelsOk = 0;

class DeviceKernels {
 public:
  virtual ~DeviceKernels() = default;

  // Writes the `count` elements of `output` from those of `input`; the two do not overlap.
  virtual int Update(const kernels::UpdateNumbers& numbers, int64_t count, const kernels::UpdateInput& input,
                     const kernels::UpdateOutput& output, DeviceQueue queue) = 0;

  // The rules for values are those of muster::ReduceOp.
  virtual int Reduce(const DeviceReduce& call, DeviceQueue queue) = 0;

  // buffer[i] /= divisor, for floating-point types; 16-bit ones are divided as float32 and rounded once.
  virtual int Divide(void* buffer, int64_t count, DataType type, int32_t divisor, DeviceQueue queue) = 0;

  // `half` is kBFloat16 or kFloat16. Rounding is to nearest even; every NaN becomes the quiet NaN with a zero payload and no sign.
  virtual int Widen(DataType half, const void* source, float* destination, int64_t count, DeviceQueue queue) = 0;
  virtual int Round(DataType half, const float* source, void* destination, int64_t count, DeviceQueue queue) = 0;

  virtual void ErrorText(int code, char* text, size_t bytes) = 0;
  virtual const char* Library() = 0;  // for whom it was built, such as "CUDA 13.0: sm_80 sm_90"
};

// What libmuster_cuda.so exports, with C names.
extern "C" {
using MusterDeviceKernelsVersion = int (*)();
using MusterDeviceKernels = DeviceKernels* (*)();  // one a process, never destroyed
}
inline constexpr char kDeviceKernelsVersionSymbol[] = "muster_device_kernels_version";
inline constexpr char kDeviceKernelsSymbol[] = "muster_device_kernels";

}  // namespace muster

#endif  // MUSTER_RUNTIME_DEVICE_DEVICE_KERNELS_H_
