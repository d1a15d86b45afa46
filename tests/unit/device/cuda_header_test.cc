// What muster declares of libcudart is what NVIDIA's header declares.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstddef>

#include "runtime/device/cuda_api.h"
#include "runtime/device/cuda_functions.h"
#include "tests/support/same_call.h"

namespace muster::test {
namespace {

#define MUSTER_CHECK_CALL(name, type) \
  static_assert(SameCall(static_cast<type>(nullptr), static_cast<decltype(&::name)>(nullptr)), #name);
MUSTER_CUDA_FUNCTIONS(MUSTER_CHECK_CALL)
#undef MUSTER_CHECK_CALL

static_assert(sizeof(CudaPointerAttributes) >= sizeof(cudaPointerAttributes));
static_assert(offsetof(CudaPointerAttributes, device) == offsetof(cudaPointerAttributes, device));
static_assert(offsetof(CudaPointerAttributes, host_pointer) == offsetof(cudaPointerAttributes, hostPointer));
static_assert(kCudaOk == cudaSuccess && kCudaInsufficientDriver == cudaErrorInsufficientDriver &&
              kCudaNoDevice == cudaErrorNoDevice);
static_assert(cudaErrorNotReady == 600 && cudaErrorInvalidValue == 1 && cudaMemcpyDefault == 4);
static_assert(cudaStreamNonBlocking == 1 && cudaEventDisableTiming == 2 && cudaMemoryTypeHost == 1 &&
              cudaMemoryTypeDevice == 2);

TEST(CudaHeader, DeclaresWhatMusterCalls) { SUCCEED() << "checked when it was compiled, against CUDA " << CUDART_VERSION; }

}  // namespace
}  // namespace muster::test
