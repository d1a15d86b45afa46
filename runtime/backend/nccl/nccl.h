// The NCCL backend: collectives on GPUs' memory by NVIDIA's library, watched by muster.
#ifndef MUSTER_RUNTIME_BACKEND_NCCL_NCCL_H_
#define MUSTER_RUNTIME_BACKEND_NCCL_NCCL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/communicator.h"
#include "runtime/backend/nccl/nccl_api.h"
#include "runtime/device/cuda_api.h"
#include "runtime/device/device_kernels.h"
#include "runtime/shm/failure.h"

namespace muster {

struct NcclOptions {
  // Shared: a thread whose abort hangs outlives the communicator, and uses them if the abort ever returns.
  std::shared_ptr<NcclApi> nccl;
  std::shared_ptr<CudaApi> cuda;
  DeviceKernels* kernels = nullptr;  // outlives the communicator; null: what needs them goes through the host

  // The same ranks, on the native backend: what they tell each other beside NCCL, and their collectives in host memory. Its Abort ends
  // the generation.
  std::unique_ptr<Communicator> control;
  // The ranks' numbers in the job, by rank here: what errors call them. Empty: the same.
  std::vector<int> job_ranks;
  // This rank's GPU, by CUDA's number in this process. NCCL wants one for each rank.
  int device = 0;
  std::vector<NcclId> ids;  // of all roots, equal on all ranks (ids.h)

  // After a failure NCCL's communicator is kept where the library can shrink it, for `before` of the next generation's.
  bool keeps_for_next = false;
  // The communicator of the generation before, which has failed and of which `lost` ranks are not in this one; null: none. Where it was
  // kept on all ranks it is shrunk, else NCCL starts anew. It is to be destroyed afterwards.
  Communicator* before = nullptr;
  std::vector<int> lost;

  // Why `control`, or a communicator that Split made of it, or the generation, is over, as whoever watches the processes says; OK while
  // none is. Any thread; may be null.
  std::function<absl::Status(Communicator& control)> interrupted;
  // Told of calls that differ, which all ranks see for themselves; `control` as above. The issuing thread; may be null.
  std::function<void(Communicator& control, const Failure& failure)> failed;
  // A line for a person; any thread; may be null.
  std::function<void(const std::string& line)> warn;

  // Pinned and in device memory each, for data that passes the host; allocated when some does. 4 KiB or more.
  int64_t scratch_bytes = int64_t{4} << 20;

  absl::Duration start_patience = absl::Minutes(2);   // for NCCL's start on all ranks
  absl::Duration warn_after = absl::Seconds(30);      // of an operation that all ranks have called; again at each doubling
  absl::Duration hang_limit = absl::Minutes(10);      // the same; then it has failed, whatever its deadline
  absl::Duration naming_patience = absl::Seconds(2);  // after NCCL's word that a peer is gone, for `interrupted` to say which
  absl::Duration end_patience = absl::Seconds(10);    // for NCCL's abort, revocation and farewell

  std::function<int64_t()> now;               // monotonic nanoseconds; null: the clock
  std::function<void(int64_t waited)> pause;  // between two looks, after `waited` nanoseconds; null: yields, later naps
};

inline int JobRank(const NcclOptions& options, int rank) {
  return options.job_ranks.empty() ? rank : options.job_ranks[static_cast<size_t>(rank)];
}

// Before each operation the ranks compare on `control` what they were asked for and where their buffers lie; then one thread puts it on
// the communicator's stream, and another looks at what runs there: done, past its deadline, failed, or over by the launcher's word. After
// the first failure that thread aborts NCCL's communicator, in bounded time, before the failed call returns.
//
// All buffers on all ranks in device memory: they are used in place, by NCCL's own arithmetic; minima and maxima of floats, and sums over
// shards (without `kernels`), pass the host. All in host memory: `control` runs it, once what was started before has ended; NCCL and the
// GPU have no part in it, and its failures are the native backend's. Neither: all pass the host. What passes the host goes on to NCCL in
// pieces, with the results of muster/tensor.h but for the order of sums.
//
// If NCCL's abort does not return, or CUDA has failed, the message says that the process has to end, capabilities() say
// membership_is_fixed and aborts_between_polls, and what NCCL may still write to is never freed.
//
// Collective; also a barrier. capabilities().device is never null.
// Errors: FailedPrecondition (NCCL refuses: two ranks on one GPU), DeadlineExceeded, Unavailable, Aborted; of a rank whose start failed
// the others hear.
absl::StatusOr<std::unique_ptr<Communicator>> CreateNcclCommunicator(NcclOptions options);

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NCCL_NCCL_H_
