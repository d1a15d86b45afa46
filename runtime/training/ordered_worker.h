// A thread that does what it is given, in order.
#ifndef MUSTER_RUNTIME_TRAINING_ORDERED_WORKER_H_
#define MUSTER_RUNTIME_TRAINING_ORDERED_WORKER_H_

#include <sys/types.h>

#include <deque>
#include <functional>
#include <memory>
#include <thread>

#include "absl/status/status.h"
#include "runtime/base/mutex.h"

namespace muster {

// Put and Await belong to one thread. The thread is made by the first Put; in a forked child there is none.
class OrderedWorker {
 public:
  OrderedWorker() = default;
  ~OrderedWorker();
  OrderedWorker(const OrderedWorker&) = delete;
  OrderedWorker& operator=(const OrderedWorker&) = delete;

  // After work that failed, what follows is left out until Await has told of it.
  // Errors: ResourceExhausted: no thread can be made.
  absl::Status Put(std::function<absl::Status()> work);

  // Blocks until all that was put is done, and returns the first error.
  absl::Status Await();

 private:
  void Run();

  Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<absl::Status()>> queue_ ABSL_GUARDED_BY(mutex_);  // the first is being done
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::unique_ptr<std::thread> thread_;
  pid_t thread_process_ = 0;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRAINING_ORDERED_WORKER_H_
