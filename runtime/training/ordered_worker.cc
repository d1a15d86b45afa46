#include "runtime/training/ordered_worker.h"

#include <signal.h>
#include <unistd.h>

#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

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
  // The user's signal handlers must not run on our thread, except for what the thread itself brings about.
  sigset_t blocked, before;
  sigfillset(&blocked);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT}) sigdelset(&blocked, fault);
  pthread_sigmask(SIG_SETMASK, &blocked, &before);
  absl::Status status;
  try {
    thread_process_ = ::getpid();
    thread_ = std::make_unique<std::thread>([this] { Run(); });
  } catch (const std::system_error& error) {
    MutexLock lock(mutex_);
    queue_.clear();
    status = absl::ResourceExhaustedError(absl::StrCat("cannot make the thread that starts all-reduces: ", error.what()));
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return status;
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
