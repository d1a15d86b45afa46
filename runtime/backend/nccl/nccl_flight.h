// One operation between its call and its end: what its Work sees.
#ifndef MUSTER_RUNTIME_BACKEND_NCCL_NCCL_FLIGHT_H_
#define MUSTER_RUNTIME_BACKEND_NCCL_NCCL_FLIGHT_H_

#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "muster/work.h"
#include "runtime/base/mutex.h"
#include "runtime/device/cuda_api.h"
#include "runtime/shm/operation.h"

namespace muster {

// CALLED -> ISSUED (on the stream) -> DONE, or from CALLED to DONE. Any thread.
class NcclFlight {
 public:
  explicit NcclFlight(const Operation& operation) : operation_(operation) {}

  const Operation& operation() const { return operation_; }
  // Where the caller's stream was at the call; null: the buffers were ready. Belongs to who issues.
  CudaEvent ready = nullptr;
  bool on_device = false;  // some buffer of this rank is in device memory
  bool by_host = false;    // some is not, or the operation wants the host

  void Begin();               // issuing begins
  void Issue(CudaEvent end);  // `end` is recorded
  void Finish(absl::Status status);
  // What Finish was told; the event of Issue is nobody's afterwards.
  CudaEvent end() const;

  bool IsDone() const;
  absl::Status Wait();
  // Blocks until it is issued or done. Then calls `use` with the event, while it may not be taken for something else; done operations have
  // none. Errors: those it ended with.
  absl::Status WithEnd(absl::FunctionRef<absl::Status(CudaEvent end)> use);

  absl::Time start_time() const;
  absl::Time end_time() const;

 private:
  const Operation operation_;
  mutable Mutex mutex_;
  CondVar changed_;
  CudaEvent end_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  absl::Time start_time_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  absl::Time end_time_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

class NcclWork : public Work {
 public:
  explicit NcclWork(std::shared_ptr<NcclFlight> flight) : flight_(std::move(flight)) {}
  bool IsDone() const override { return flight_->IsDone(); }
  absl::Status Wait() override { return flight_->Wait(); }
  absl::Time StartTime() const override { return flight_->start_time(); }
  absl::Time EndTime() const override { return flight_->end_time(); }
  NcclFlight& flight() { return *flight_; }

 private:
  const std::shared_ptr<NcclFlight> flight_;  // shared with the threads that run it
};

// A copy that shares no memory with `status`, for another thread.
inline absl::Status Unshared(const absl::Status& status) { return absl::Status(status.code(), status.message()); }

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NCCL_NCCL_FLIGHT_H_
