// Collectives on a GPU's memory, in order with the caller's own streams and without the host waiting.
#ifndef MUSTER_DEVICE_H_
#define MUSTER_DEVICE_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/window.h"
#include "muster/work.h"

namespace muster {

using DeviceStream = void*;  // a cudaStream_t

// What a communicator can do besides, whose capabilities().device is not null. Its collectives take buffers in host memory and in the
// memory of `device()`. Where all buffers of all ranks are in device memory they are used in place, on a stream of the communicator's own;
// where all are in host memory the GPU has no part in it, and the result has the native backend's bits. Where they lie here and there, or
// the operation needs it (muster's documentation of the backend says which do), data goes through the host, with the same result but for
// the order of sums.
//
//   device->SetStream(stream);                                       // once: what backward's kernels run on
//   ... kernels that compute a bucket, on `stream` ...
//   auto work = comm.StartAllReduce({bucket, count, type}, op);      // begins after those kernels, beside the next ones
//   ... more kernels, more buckets ...
//   for (auto& w : works) MUSTER_RETURN_IF_ERROR(device->Follow(*w, stream));
//   ... the optimizer's kernels, on `stream` ...                     // run after the collectives
//   for (auto& w : works) MUSTER_RETURN_IF_ERROR(w->Wait());         // whether all went well: before the step counts
//
// Threads: as the communicator's other calls, one at a time. The calling thread has `device()` current.
class DeviceCollectives {
 public:
  virtual ~DeviceCollectives() = default;
  DeviceCollectives(const DeviceCollectives&) = delete;
  DeviceCollectives& operator=(const DeviceCollectives&) = delete;

  // The CUDA number of the one device that this rank's device buffers lie on.
  virtual int device() const = 0;

  // Collectives called from now on with a buffer in device memory, blocking ones too, begin after what is on `stream` when they are
  // called. Null, as at first: their buffers are ready at the call, as buffers in host memory always are for collectives with no other.
  // `stream` stays until another is set and what was called before has ended; not the legacy default stream.
  virtual void SetStream(DeviceStream stream) = 0;

  // What is put on `stream` from now on runs after `work`, which this communicator has returned. Blocks until all ranks have called the
  // operation and it is on the communicator's stream, not until it has run (where data is on the host or goes through it: until it has run).
  // Errors: those of `work`, as far as they are known. Of one that fails later only Work::Wait() tells; `stream` is not held up then.
  virtual absl::Status Follow(Work& work, DeviceStream stream) = 0;

  // Collective. As Communicator::CreateWindow, but in device memory, zeroed and known to the network: what lies in it moves without a
  // copy. (CreateWindow gives the native backend's shared memory here, pinned where the system allows it.)
  virtual absl::StatusOr<std::unique_ptr<Window>> CreateDeviceWindow(int64_t bytes,
                                                                     absl::Time deadline = absl::InfiniteFuture()) = 0;

 protected:
  DeviceCollectives() = default;
};

}  // namespace muster

#endif  // MUSTER_DEVICE_H_
