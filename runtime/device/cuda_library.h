// libcudart, opened when it is asked for.
#ifndef MUSTER_RUNTIME_DEVICE_CUDA_LIBRARY_H_
#define MUSTER_RUNTIME_DEVICE_CUDA_LIBRARY_H_

#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "runtime/device/cuda_api.h"

namespace muster {

// Finds libcudart as library_search.h says: `path` is MUSTER_CUDA_LIBRARY. The library stays open for the process's life.
// Errors: FailedPrecondition: it is not there, or lacks a function; the message says what was tried and what to install.
absl::StatusOr<std::shared_ptr<CudaApi>> OpenCudaLibrary(const std::string& path,
                                                         absl::FunctionRef<const char*(const char*)> variable);
absl::StatusOr<std::shared_ptr<CudaApi>> OpenCudaLibrary(const std::string& path);  // with this process's environment

// How many GPUs this process can use, at least 1.
// Errors: FailedPrecondition: none, in one sentence that says why and what to do.
absl::StatusOr<int> UsableGpus(CudaApi& cuda);

}  // namespace muster

#endif  // MUSTER_RUNTIME_DEVICE_CUDA_LIBRARY_H_
