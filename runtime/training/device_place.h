// Training in a GPU's memory.
#ifndef MUSTER_RUNTIME_TRAINING_DEVICE_PLACE_H_
#define MUSTER_RUNTIME_TRAINING_DEVICE_PLACE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "muster/communicator.h"
#include "runtime/device/cuda_api.h"
#include "runtime/device/device_kernels.h"
#include "runtime/training/place.h"

namespace muster {

// Parameters, moments and gradients are in the memory of `device`, work is queued to one stream of it, which passes share. Heads of
// state blocks, and copies for the host where it asks, are in the host's memory.
//
// A bucket's all-reduce begins while later gradients are still being computed. Of a communicator that reduces in this device's memory
// (muster/device.h) the rows lie in a window of its own; it starts behind what is on the stream, and the stream follows it. For any other
// one Start records an event on the stream, and a thread of the place's own waits for it on a second stream, copies the rows into a
// window and starts the all-reduce, so that its bits are those of the same communicator on the host. Until AwaitStarts has returned
// nobody else may use the communicator.
// Errors: ResourceExhausted (the device's memory is too small: says how much was asked for), Internal (CUDA's own).
absl::StatusOr<std::unique_ptr<Place>> CreateDevicePlace(Communicator& communicator, std::shared_ptr<CudaApi> cuda,
                                                         DeviceKernels& kernels, int device);

// The same on a real GPU; `device` -1: the calling thread's current one.
// Errors: FailedPrecondition: no GPU, no CUDA runtime or no libmuster_cuda.so, in one sentence with the remedy; InvalidArgument: there
// are fewer GPUs.
absl::StatusOr<std::unique_ptr<Place>> CreateCudaPlace(Communicator& communicator, int device);

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRAINING_DEVICE_PLACE_H_
