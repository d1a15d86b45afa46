#include "runtime/backend/nccl/nccl_handle.h"

#include <atomic>
#include <system_error>
#include <thread>
#include <utility>

namespace muster {

NcclHandle::NcclHandle(std::shared_ptr<NcclApi> nccl, std::shared_ptr<CudaApi> cuda, int device, NcclClock clock)
    : nccl_(std::move(nccl)), cuda_(std::move(cuda)), device_(device), clock_(std::move(clock)) {}

NcclHandle::~NcclHandle() = default;

int NcclHandle::Make(absl::FunctionRef<int(NcclComm*)> make) {
  MutexLock lock(mutex_);
  return make(&comm_);
}

int NcclHandle::Call(absl::FunctionRef<int(NcclComm)> call) {
  MutexLock lock(mutex_);
  return comm_ == nullptr ? kGone : call(comm_);
}

int NcclHandle::State() {
  return Call([this](NcclComm comm) {
    int state = kNcclOk;
    const int code = nccl_->AsyncError(comm, &state);
    return code == kNcclOk ? state : code;
  });
}

bool NcclHandle::is_gone() const {
  MutexLock lock(mutex_);
  return comm_ == nullptr;
}

bool NcclHandle::is_revoked() const {
  MutexLock lock(mutex_);
  return revoked_ && comm_ != nullptr;
}

int NcclHandle::AwaitState(absl::Duration patience) {
  const int64_t begin = clock_.now();
  for (;;) {
    const int state = State();
    const int64_t waited = clock_.now() - begin;
    if (state != kNcclInProgress || waited >= absl::ToInt64Nanoseconds(patience)) return state;
    clock_.pause(waited);
  }
}

bool NcclHandle::End(int (NcclApi::*end)(NcclComm), absl::Duration patience) {
  NcclComm comm = nullptr;
  {
    MutexLock lock(mutex_);
    std::swap(comm, comm_);
  }
  if (comm == nullptr) return true;
  // Shared with the thread, which this does not wait for if it hangs.
  const auto ended = std::make_shared<std::atomic<bool>>(false);
  try {
    std::thread([nccl = nccl_, cuda = cuda_, device = device_, comm, end, ended] {
      static_cast<void>(cuda->SetDevice(device));
      static_cast<void>(((*nccl).*end)(comm));
      ended->store(true, std::memory_order_release);
    }).detach();
  } catch (const std::system_error&) {
    return false;  // no thread: nobody can end it, which is the same as an end that hangs
  }
  const int64_t begin = clock_.now();
  while (!ended->load(std::memory_order_acquire)) {
    const int64_t waited = clock_.now() - begin;
    if (waited >= absl::ToInt64Nanoseconds(patience)) return false;
    clock_.pause(waited);
  }
  return true;
}

bool NcclHandle::Abort(absl::Duration patience) { return End(&NcclApi::Abort, patience); }

bool NcclHandle::Revoke(absl::Duration patience) {
  const int code = Call([this](NcclComm comm) { return nccl_->Revoke(comm); });
  if (code != kNcclOk && code != kNcclInProgress) return false;
  if (AwaitState(patience) != kNcclOk) return false;
  MutexLock lock(mutex_);
  revoked_ = true;
  return true;
}

bool NcclHandle::Leave(absl::Duration patience) {
  const int code = Call([this](NcclComm comm) { return nccl_->Finalize(comm); });
  if (code == kGone) return true;
  const bool well = (code == kNcclOk || code == kNcclInProgress) && AwaitState(patience) == kNcclOk;
  return End(well ? &NcclApi::Destroy : &NcclApi::Abort, patience);
}

}  // namespace muster
