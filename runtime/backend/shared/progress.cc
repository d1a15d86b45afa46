#include "runtime/backend/shared/progress.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/clock.h"
#include "runtime/base/library_thread.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

// Counts a thread inside the library for its life.
class InsideLibrary {
 public:
  explicit InsideLibrary(std::atomic<int>& count) : count_(count) { count_.fetch_add(1, std::memory_order_relaxed); }
  ~InsideLibrary() { count_.fetch_sub(1, std::memory_order_relaxed); }
  InsideLibrary(const InsideLibrary&) = delete;
  InsideLibrary& operator=(const InsideLibrary&) = delete;

 private:
  std::atomic<int>& count_;
};

}  // namespace

// Shared by the queue and the Work, either of which may go first.
struct Progress::Started {
  Started(const Operation& operation, CallersInside callers_inside)
      : operation(operation), callers_inside(std::move(callers_inside)) {}

  const Operation operation;
  const CallersInside callers_inside;
  std::atomic<bool> done{false};
  mutable Mutex mutex;
  CondVar finished;
  absl::Status status ABSL_GUARDED_BY(mutex);
  absl::Time start ABSL_GUARDED_BY(mutex) = absl::InfinitePast();
  absl::Time end ABSL_GUARDED_BY(mutex) = absl::InfinitePast();
};

class Progress::StartedWork : public Work {
 public:
  explicit StartedWork(std::shared_ptr<Started> started) : started_(std::move(started)) {}

  bool IsDone() const override { return started_->done.load(std::memory_order_acquire); }

  absl::Status Wait() override {
    InsideLibrary inside(*started_->callers_inside);
    MutexLock lock(started_->mutex);
    while (!started_->done.load(std::memory_order_acquire)) started_->finished.Wait(started_->mutex);
    return started_->status;
  }

  absl::Time StartTime() const override {
    MutexLock lock(started_->mutex);
    return started_->start;
  }
  absl::Time EndTime() const override {
    MutexLock lock(started_->mutex);
    return started_->end;
  }

 private:
  const std::shared_ptr<Started> started_;
};

Progress::~Progress() { Finish(); }

void Progress::Finish() {
  if (thread_ == nullptr) return;
  if (::getpid() != thread_process_) {
    // Destroying a joinable std::thread would end the child, and a condition variable would wait for its waiter for ever.
    thread_.release();
    queue_.release();
    return;
  }
  {
    InsideLibrary inside(*callers_inside_);
    MutexLock lock(queue_->mutex);
    queue_->stop = true;
    queue_->changed.SignalAll();
  }
  thread_->join();
  thread_.reset();
}

void Progress::Abandon() {
  if (thread_ != nullptr && ::getpid() == thread_process_) thread_->detach();
}

absl::StatusOr<std::unique_ptr<Work>> Progress::Start(const Operation& operation) {
  auto started = std::make_shared<Started>(operation, callers_inside_);
  if (thread_ == nullptr) {
    MUSTER_ASSIGN_OR_RETURN(thread_, StartLibraryThread("the progress thread", [this] { Loop(); }));
    thread_process_ = ::getpid();
  }
  MutexLock lock(queue_->mutex);
  if (queue_->started.size() >= kQueueMax) {
    return absl::ResourceExhaustedError(absl::StrCat(kQueueMax, " started operations are waiting; wait for some first"));
  }
  unfinished_.fetch_add(1, std::memory_order_relaxed);
  queue_->started.push_back(started);
  queue_->changed.SignalAll();
  return std::make_unique<StartedWork>(std::move(started));
}

bool Progress::WaitUntilIdle(int64_t deadline) {
  if (IsIdle()) return true;
  InsideLibrary inside(*callers_inside_);
  MutexLock lock(queue_->mutex);
  while (!IsIdle()) {
    const int64_t left = deadline - MonotonicNanoseconds();
    if (left <= 0) return false;
    queue_->changed.WaitFor(queue_->mutex, absl::Nanoseconds(left));
  }
  return true;
}

void Progress::Loop() {
  for (;;) {
    std::shared_ptr<Started> next;
    {
      MutexLock lock(queue_->mutex);
      while (queue_->started.empty() && !queue_->stop) queue_->changed.Wait(queue_->mutex);
      if (queue_->started.empty()) return;
      next = std::move(queue_->started.front());
      queue_->started.pop_front();
    }
    {
      MutexLock lock(next->mutex);
      next->start = absl::Now();
    }
    absl::Status status = run_(next->operation, callers_inside_.get());
    {
      MutexLock lock(next->mutex);
      next->status = std::move(status);
      next->end = absl::Now();
      next->done.store(true, std::memory_order_release);
      next->finished.SignalAll();
    }
    MutexLock lock(queue_->mutex);
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) queue_->changed.SignalAll();
  }
}

}  // namespace muster
