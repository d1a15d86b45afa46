// libmuster_cuda.so: DeviceKernels for NVIDIA GPUs. Built where nvcc is.
#include <cuda_runtime.h>
#include <stdio.h>

#include "runtime/device/cuda/element_body.h"

namespace muster::device {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kBlocksMax = 1 << 16;  // each thread then takes several elements

__device__ int64_t FirstElement() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ int64_t Stride() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

unsigned Blocks(int64_t count) {
  const int64_t blocks = (count + kThreads - 1) / kThreads;
  return static_cast<unsigned>(blocks < kBlocksMax ? blocks : kBlocksMax);
}

__global__ void UpdateAll(kernels::UpdateNumbers numbers, int64_t count, kernels::UpdateInput input,
                          kernels::UpdateOutput output) {
  for (int64_t i = FirstElement(); i < count; i += Stride()) {
    kernels::UpdatedElement updated;
    switch (numbers.kind) {  // the same for all threads
      case kernels::UpdateKind::kSgd:
        updated = kernels::UpdateSgd(numbers, input.gradient[i], input.value[i]);
        break;
      case kernels::UpdateKind::kMomentum:
        updated = kernels::UpdateMomentum(numbers, input.gradient[i], input.value[i], input.moment[0][i]);
        output.moment[0][i] = updated.moment[0];
        break;
      case kernels::UpdateKind::kAdamW:
        updated = kernels::UpdateAdamW(numbers, input.gradient[i], input.value[i], input.moment[0][i], input.moment[1][i]);
        output.moment[0][i] = updated.moment[0];
        output.moment[1][i] = updated.moment[1];
        break;
    }
    output.value[i] = updated.value;
  }
}

template <class Format, class Op>
__global__ void ReduceAll(DeviceReduce call) {
  auto* const destination = static_cast<typename Format::Stored*>(call.destination);
  for (int64_t i = FirstElement(); i < call.count; i += Stride()) destination[i] = ReducedElement<Format, Op>(call, i);
}

template <class Format>
__global__ void DivideAll(typename Format::Stored* buffer, int64_t count, int32_t divisor) {
  for (int64_t i = FirstElement(); i < count; i += Stride()) buffer[i] = DividedElement<Format>(buffer[i], divisor);
}

template <class Format>
__global__ void WidenAll(const uint16_t* source, float* destination, int64_t count) {
  for (int64_t i = FirstElement(); i < count; i += Stride()) destination[i] = QuietNan(Format::Load(source[i]));
}

template <class Format>
__global__ void RoundAll(const float* source, uint16_t* destination, int64_t count) {
  for (int64_t i = FirstElement(); i < count; i += Stride()) destination[i] = Format::Store(QuietNan(source[i]));
}

// Launches `body` with what stands in <<<>>>. Returns the launch's own error; what the kernel does wrong is seen by whoever waits
// for the stream.
template <class Body>
int Launch(int64_t count, DeviceQueue queue, const Body& body) {
  if (count == 0) return kDeviceKernelsOk;
  if (const cudaError_t error = cudaSetDevice(queue.device); error != cudaSuccess) return static_cast<int>(error);
  body(Blocks(count), static_cast<cudaStream_t>(queue.stream));
  return static_cast<int>(cudaGetLastError());
}

constexpr int kNoSuchType = static_cast<int>(cudaErrorInvalidValue);
bool IsHalf(DataType type) { return type == DataType::kBFloat16 || type == DataType::kFloat16; }

class CudaKernels final : public DeviceKernels {
 public:
  int Update(const kernels::UpdateNumbers& numbers, int64_t count, const kernels::UpdateInput& input,
             const kernels::UpdateOutput& output, DeviceQueue queue) override {
    return Launch(count, queue, [&](unsigned blocks, cudaStream_t stream) {
      UpdateAll<<<blocks, kThreads, 0, stream>>>(numbers, count, input, output);
    });
  }

  int Reduce(const DeviceReduce& call, DeviceQueue queue) override {
    if (call.op == ReduceOp::kAvg && IsInteger(call.type)) return kNoSuchType;
    return Launch(call.count, queue, [&](unsigned blocks, cudaStream_t stream) {
      WithFormat(call.type, [&](auto format) {
        WithOp(call.op, [&](auto op) { ReduceAll<decltype(format), decltype(op)><<<blocks, kThreads, 0, stream>>>(call); });
      });
    });
  }

  int Divide(void* buffer, int64_t count, DataType type, int32_t divisor, DeviceQueue queue) override {
    if (IsInteger(type)) return kNoSuchType;
    return Launch(count, queue, [&](unsigned blocks, cudaStream_t stream) {
      WithFormat(type, [&](auto format) {
        using Format = decltype(format);
        if constexpr (BitsOf<typename Format::Compute>::kIsFloat) {
          auto* const elements = static_cast<typename Format::Stored*>(buffer);
          DivideAll<Format><<<blocks, kThreads, 0, stream>>>(elements, count, divisor);
        }
      });
    });
  }

  int Widen(DataType half, const void* source, float* destination, int64_t count, DeviceQueue queue) override {
    if (!IsHalf(half)) return kNoSuchType;
    return Launch(count, queue, [&](unsigned blocks, cudaStream_t stream) {
      const auto* const from = static_cast<const uint16_t*>(source);
      if (half == DataType::kBFloat16) {
        WidenAll<BFloat16><<<blocks, kThreads, 0, stream>>>(from, destination, count);
      } else {
        WidenAll<Float16><<<blocks, kThreads, 0, stream>>>(from, destination, count);
      }
    });
  }

  int Round(DataType half, const float* source, void* destination, int64_t count, DeviceQueue queue) override {
    if (!IsHalf(half)) return kNoSuchType;
    return Launch(count, queue, [&](unsigned blocks, cudaStream_t stream) {
      auto* const to = static_cast<uint16_t*>(destination);
      if (half == DataType::kBFloat16) {
        RoundAll<BFloat16><<<blocks, kThreads, 0, stream>>>(source, to, count);
      } else {
        RoundAll<Float16><<<blocks, kThreads, 0, stream>>>(source, to, count);
      }
    });
  }

  void ErrorText(int code, char* text, size_t bytes) override {
    const auto error = static_cast<cudaError_t>(code);
    snprintf(text, bytes, "%s: %s", cudaGetErrorName(error), cudaGetErrorString(error));
  }

  const char* Library() override { return MUSTER_CUDA_BUILD; }
};

}  // namespace
}  // namespace muster::device

extern "C" {
__attribute__((visibility("default"))) int muster_device_kernels_version() { return muster::kDeviceKernelsVersion; }
__attribute__((visibility("default"))) muster::DeviceKernels* muster_device_kernels() {
  static auto* const kernels = new muster::device::CudaKernels();
  return kernels;
}
}
