// A communicator for callers whose data is in host memory, which gives a backend device memory: with it every test of collectives is one
// of collectives on GPUs.
#ifndef MUSTER_TESTS_SUPPORT_DEVICE_MEMORY_H_
#define MUSTER_TESTS_SUPPORT_DEVICE_MEMORY_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "muster/communicator.h"
#include "runtime/device/cuda_api.h"

namespace muster::test {

// Whether buffer `buffer` of `rank`, counted from 0 over its calls, goes to device memory.
using OnDevice = std::function<bool(int rank, int64_t buffer)>;

// Copies go both ways on a stream of its own, before (SetStream) and after (Follow) the collectives of `inner`, whose
// capabilities().device is not null. Two buffers that overlap do so on the device as well; alignments are those of the element type.
// Start... returns when all ranks have called it. Sums follow no tree. `inner` and `cuda` outlive it.
std::unique_ptr<Communicator> WithDeviceMemory(Communicator& inner, CudaApi& cuda, OnDevice on_device);

}  // namespace muster::test

#endif  // MUSTER_TESTS_SUPPORT_DEVICE_MEMORY_H_
