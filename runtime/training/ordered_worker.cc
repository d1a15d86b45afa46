#include "runtime/training/ordered_worker.h"

#include <unistd.h>

#include <utility>

#include "runtime/base/library_thread.h"

namespace muster {

OrderedWorker::~OrderedWorker() {
  if (thread_ == nullptr) return;
  if (thread_process_ != ::getpid()) {
    static_cast<void>(thread_.release());
    return;
  }
  {
    MutexLock lock(mutex_);
    stop_ = true;
    changed_.SignalAll();
  }
  thread_->join();
}

absl::Status OrderedWorker::Put(std::function<absl::Status()> work) {
  {
    MutexLock lock(mutex_);
    queue_.push_back(std::move(work));
    changed_.SignalAll();
  }
  if (thread_ != nullptr) return absl::OkStatus();
  auto thread = StartLibraryThread("the thread that starts all-reduces", [this] { Run(); });
  if (!thread.ok()) {
    MutexLock lock(mutex_);
    queue_.clear();
    return thread.status();
  }
  thread_process_ = ::getpid();
  thread_ = *std::move(thread);
  return absl::OkStatus();
}

absl::Status OrderedWorker::Await() {
  MutexLock lock(mutex_);
  while (!queue_.empty()) changed_.Wait(mutex_);
  return std::exchange(status_, absl::OkStatus());
}

void OrderedWorker::Run() {
  MutexLock lock(mutex_);
  for (;;) {
    while (queue_.empty() && !stop_) changed_.Wait(mutex_);
    if (queue_.empty()) return;
    if (status_.ok()) {
      const std::function<absl::Status()>& work = queue_.front();  // what others push behind it does not move it
      mutex_.Unlock();
      absl::Status status = work();
      mutex_.Lock();
      status_ = std::move(status);
    }
    queue_.pop_front();
    changed_.SignalAll();
  }
}

}  // namespace muster
