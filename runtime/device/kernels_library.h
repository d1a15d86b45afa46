// libmuster_cuda.so, opened when it is asked for.
#ifndef MUSTER_RUNTIME_DEVICE_KERNELS_LIBRARY_H_
#define MUSTER_RUNTIME_DEVICE_KERNELS_LIBRARY_H_

#include "absl/status/statusor.h"
#include "runtime/device/device_kernels.h"

namespace muster {

// libmuster_cuda.so in the folder of the code that calls this, else where the loader looks. Stays open for the process's life. It
// brings the CUDA runtime it needs, so it opens on machines without a GPU, too.
// Errors: FailedPrecondition: there is none, or it is of another muster; the message says what to install.
absl::StatusOr<DeviceKernels*> OpenCudaKernels();

// kOk, or `code` in words: Internal, for what `doing` names.
absl::Status KernelStatus(DeviceKernels& kernels, int code, const char* doing);

}  // namespace muster

#endif  // MUSTER_RUNTIME_DEVICE_KERNELS_LIBRARY_H_
