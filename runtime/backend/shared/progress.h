// The communicator's one background thread, which runs started operations in the order they were started.
#ifndef MUSTER_RUNTIME_BACKEND_SHARED_PROGRESS_H_
#define MUSTER_RUNTIME_BACKEND_SHARED_PROGRESS_H_

#include <sys/types.h>

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "muster/work.h"
#include "runtime/base/mutex.h"
#include "runtime/shm/operation.h"

namespace muster {

// How many threads of this rank wait inside the library for started operations: only then may the background thread spin.
using CallersInside = std::shared_ptr<std::atomic<int>>;

// Start, WaitUntilIdle and the destructor belong to one thread at a time.
class Progress {
 public:
  // Runs one operation; called on the background thread. The argument counts callers inside.
  using Run = std::function<absl::Status(const Operation&, const std::atomic<int>*)>;

  static constexpr size_t kQueueMax = 1 << 16;

  explicit Progress(Run run) : run_(std::move(run)) {}
  // Waits until everything started has ended. In a forked child it does nothing: the thread is not there.
  ~Progress();
  // The same, earlier; nothing may be started afterwards.
  void Finish();
  // What is running will never end: the thread is left to itself, and this object must not be destroyed.
  void Abandon();

  // Queues `operation`; the thread is made by the first call. Errors: ResourceExhausted (kQueueMax operations are waiting, or
  // no thread can be made).
  absl::StatusOr<std::unique_ptr<Work>> Start(const Operation& operation);

  // Whether nothing is queued or running. What the operations wrote is visible to whoever sees true.
  bool IsIdle() const { return unfinished_.load(std::memory_order_acquire) == 0; }

  // Blocks until IsIdle(); false when `deadline` (MonotonicNanoseconds()) passed first.
  bool WaitUntilIdle(int64_t deadline);

 private:
  struct Started;
  class StartedWork;

  void Loop();

  const Run run_;
  const CallersInside callers_inside_ = std::make_shared<std::atomic<int>>(0);
  std::atomic<int64_t> unfinished_{0};

  struct Queue {
    Mutex mutex;
    CondVar changed;
    std::deque<std::shared_ptr<Started>> started ABSL_GUARDED_BY(mutex);
    bool stop ABSL_GUARDED_BY(mutex) = false;
  };
  std::unique_ptr<Queue> queue_ = std::make_unique<Queue>();
  std::unique_ptr<std::thread> thread_;
  pid_t thread_process_ = 0;  // the process that made the thread
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_SHARED_PROGRESS_H_
