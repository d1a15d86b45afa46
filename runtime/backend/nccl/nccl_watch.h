// Looks at what runs on a communicator's stream, and ends all of it after the first failure.
#ifndef MUSTER_RUNTIME_BACKEND_NCCL_NCCL_WATCH_H_
#define MUSTER_RUNTIME_BACKEND_NCCL_NCCL_WATCH_H_

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "runtime/backend/nccl/nccl.h"
#include "runtime/backend/nccl/nccl_flight.h"
#include "runtime/backend/nccl/nccl_handle.h"
#include "runtime/base/mutex.h"

namespace muster {

// Whether the process has to end: NCCL or CUDA may still write to memory that is no longer theirs. Shared with windows.
using MustEnd = std::shared_ptr<std::atomic<bool>>;

// Any thread. One thread of its own finishes operations in the order they were issued; it never waits for peers.
class NcclWatch {
 public:
  // All outlive the watch. `told` ends the generation for the peers.
  NcclWatch(const NcclOptions& options, NcclClock clock, NcclHandle& handle, Communicator& told);
  ~NcclWatch();
  // Errors: ResourceExhausted: no thread.
  absl::Status Start();
  // Waits until what was issued is done, and ends the thread.
  void Finish();

  // `flight` is issued, after all that were followed before.
  void Follow(std::shared_ptr<NcclFlight> flight);
  // Waits until all that is followed has ended. Errors: how the communicator has failed; where `deadline` (MonotonicNanoseconds()) passed
  // first, that breaks it.
  absl::Status AwaitIdle(int64_t deadline);
  // What was started before a call has not ended by its deadline: breaks, and returns the failure.
  absl::Status FailLate();

  // The first failure stays. `tell`: the peers do not know it. Returns at once.
  void Break(absl::Status status, bool tell);
  // Whether there is a failure; NCCL may not have been ended yet.
  bool is_broken() const;
  // Waits until NCCL has been ended after the failure, or has been given up, and returns the failure.
  absl::Status Settled();

  // What ends `operation`, which is waited for since `begin` and has not ended; OK to go on. Breaks where it is not.
  absl::Status Look(const Operation& operation, int64_t begin);
  absl::Status CudaFailed(int code, const Operation& operation);
  // CudaFailed, if a kernel or copy has faulted: then CUDA answers nothing else for the process's life. `words`: who says so first.
  absl::Status LookForFault(const Operation& operation, const std::string& words = "");
  absl::Status NcclFailed(int code, const Operation& operation);

  // Events are used again.
  absl::Status TakeEvent(CudaEvent* event, const Operation& operation);
  void GiveEvent(CudaEvent event);

  const MustEnd& must_end() const { return must_end_; }
  const NcclClock& clock() const { return clock_; }

 private:
  void Loop();
  bool LandIfDone(const std::shared_ptr<NcclFlight>& flight);
  void EndAfterFailure();
  void FailAll() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool WaitUntilIdle(int64_t deadline);
  absl::Status CudaFailed(int code, const Operation& operation, const std::string& also);
  absl::Status failure() const;
  absl::Status Interrupted() const;
  std::string Where(const Operation& operation) const;
  void Warn(const Operation& operation, int64_t waited);

  const NcclOptions& options_;
  const NcclClock clock_;
  NcclHandle& handle_;
  Communicator& told_;
  const MustEnd must_end_ = std::make_shared<std::atomic<bool>>(false);

  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<std::shared_ptr<NcclFlight>> flights_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  bool settled_ ABSL_GUARDED_BY(mutex_) = false;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t warned_ ABSL_GUARDED_BY(mutex_) = 0;  // after how long, of the operation that is looked at
  std::vector<CudaEvent> events_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<std::thread> thread_;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NCCL_NCCL_WATCH_H_
