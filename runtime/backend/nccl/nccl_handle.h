// One of NCCL's communicators, whose end takes bounded time.
#ifndef MUSTER_RUNTIME_BACKEND_NCCL_NCCL_HANDLE_H_
#define MUSTER_RUNTIME_BACKEND_NCCL_NCCL_HANDLE_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "runtime/backend/nccl/nccl_api.h"
#include "runtime/base/mutex.h"

namespace muster {

// How time passes for whoever looks again and again.
struct NcclClock {
  std::function<int64_t()> now;
  std::function<void(int64_t waited)> pause;
};

// Any thread. What ends the communicator runs in a thread of its own: it may not return.
class NcclHandle {
 public:
  // The code of calls on a communicator that has ended.
  static constexpr int kGone = -1;

  NcclHandle(std::shared_ptr<NcclApi> nccl, std::shared_ptr<CudaApi> cuda, int device, NcclClock clock);
  ~NcclHandle();  // does not end it

  // `make` fills in the communicator and returns NCCL's code.
  int Make(absl::FunctionRef<int(NcclComm* comm)> make);
  // Calls NCCL while nothing can end the communicator. `call` does not block.
  int Call(absl::FunctionRef<int(NcclComm comm)> call);
  // kNcclOk, kNcclInProgress, an error, or kGone.
  int State();

  // Ends it at once, for good. False when NCCL has not returned within `patience`.
  bool Abort(absl::Duration patience);
  // Ends what runs on it, and leaves it to be shrunk. False when that failed or took longer: then it is still to be aborted.
  bool Revoke(absl::Duration patience);
  // Ends it well, with its peers; aborts it where that fails. False as for Abort.
  bool Leave(absl::Duration patience);

  bool is_gone() const;
  bool is_revoked() const;

 private:
  bool End(int (NcclApi::*end)(NcclComm), absl::Duration patience);
  // Looks at the state until it is another than kNcclInProgress, or `patience` is over.
  int AwaitState(absl::Duration patience);

  const std::shared_ptr<NcclApi> nccl_;
  const std::shared_ptr<CudaApi> cuda_;
  const int device_;
  const NcclClock clock_;
  mutable Mutex mutex_;
  NcclComm comm_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool revoked_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NCCL_NCCL_HANDLE_H_
