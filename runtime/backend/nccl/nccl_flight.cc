#include "runtime/backend/nccl/nccl_flight.h"

#include <utility>

#include "absl/time/clock.h"

namespace muster {

void NcclFlight::Begin() {
  MutexLock lock(mutex_);
  start_time_ = absl::Now();
}

void NcclFlight::Issue(CudaEvent end) {
  MutexLock lock(mutex_);
  end_ = end;
  changed_.SignalAll();
}

void NcclFlight::Finish(absl::Status status) {
  MutexLock lock(mutex_);
  status_ = std::move(status);
  end_time_ = absl::Now();
  done_ = true;
  changed_.SignalAll();
}

CudaEvent NcclFlight::end() const {
  MutexLock lock(mutex_);
  return end_;
}

bool NcclFlight::IsDone() const {
  MutexLock lock(mutex_);
  return done_;
}

absl::Status NcclFlight::Wait() {
  MutexLock lock(mutex_);
  while (!done_) changed_.Wait(mutex_);
  return Unshared(status_);
}

absl::Status NcclFlight::WithEnd(absl::FunctionRef<absl::Status(CudaEvent)> use) {
  MutexLock lock(mutex_);
  while (!done_ && end_ == nullptr) changed_.Wait(mutex_);
  if (done_) return Unshared(status_);
  return use(end_);
}

absl::Time NcclFlight::start_time() const {
  MutexLock lock(mutex_);
  return start_time_;
}

absl::Time NcclFlight::end_time() const {
  MutexLock lock(mutex_);
  return end_time_;
}

}  // namespace muster
