// The communicator's CUDA stream, as who issues operations sees it.
#ifndef MUSTER_RUNTIME_BACKEND_NCCL_NCCL_STREAM_H_
#define MUSTER_RUNTIME_BACKEND_NCCL_NCCL_STREAM_H_

#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "runtime/backend/nccl/nccl_flight.h"
#include "runtime/backend/nccl/nccl_handle.h"
#include "runtime/backend/nccl/nccl_watch.h"

namespace muster {

// One thread at a time, whose current device is the communicator's. Everything here belongs to `operation`, which is named in errors; an
// error has broken the watch.
class NcclStream {
 public:
  // All outlive it.
  NcclStream(CudaApi& cuda, NcclHandle& handle, NcclWatch& watch) : cuda_(cuda), handle_(handle), watch_(watch) {}
  ~NcclStream();
  absl::Status Open(const Operation& operation);

  absl::Status Check(int code, const Operation& operation);
  absl::Status Copy(void* to, const void* from, int64_t bytes, const Operation& operation);
  // Calls NCCL and looks until what it called is on the stream.
  absl::Status Launch(absl::FunctionRef<int(NcclComm comm, CudaStream stream)> call, const Operation& operation);
  // What was put on the stream is `flight`, from now on the watch's.
  absl::Status Send(const std::shared_ptr<NcclFlight>& flight);
  // Waits until all on the stream is done.
  absl::Status Settle(const Operation& operation);

  CudaStream get() const { return stream_; }

 private:
  CudaApi& cuda_;
  NcclHandle& handle_;
  NcclWatch& watch_;
  CudaStream stream_ = nullptr;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NCCL_NCCL_STREAM_H_
