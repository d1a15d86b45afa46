// What the issuing thread of the NCCL backend does: compares the ranks' calls and puts operations on the stream.
#ifndef MUSTER_RUNTIME_BACKEND_NCCL_NCCL_ENGINE_H_
#define MUSTER_RUNTIME_BACKEND_NCCL_NCCL_ENGINE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "runtime/backend/nccl/nccl.h"
#include "runtime/backend/nccl/nccl_flight.h"
#include "runtime/backend/nccl/nccl_handle.h"
#include "runtime/backend/nccl/nccl_staging.h"
#include "runtime/backend/nccl/nccl_stream.h"
#include "runtime/backend/nccl/nccl_watch.h"
#include "runtime/shm/operation.h"

namespace muster {

// Where the data of a call goes, the same on all ranks.
enum class NcclRoute {
  kNative,  // all buffers of all ranks are in host memory
  kDevice,  // all are in device memory
  kStaged,  // neither, or NCCL cannot do it there
};

// Whether a rank's call has to pass the host though its buffers are device memory: NCCL's own arithmetic would give another result, or
// it has none.
bool NeedsHost(const Operation& operation, bool has_kernels);

// What the `input` of a kCreateWindow operation for device memory points to.
struct WindowRequest {
  int64_t have = 0;  // whether this rank has the memory; the others' answers decide
};

// One thread at a time.
class NcclEngine {
 public:
  // All outlive it. `operations` counts those of this rank.
  NcclEngine(const NcclOptions& options, NcclHandle& handle, NcclWatch& watch, Communicator& control);
  ~NcclEngine();

  // Collective. Opens the stream, waits for all ranks, and has `make` begin a communicator, until NCCL says that it is there.
  absl::Status Start(absl::FunctionRef<absl::Status(NcclHandle& handle)> make);

  // Takes one operation to the stream, or to its end where its data is on the host or passes it; then `flight` is finished, or followed by
  // the watch.
  void Run(const std::shared_ptr<NcclFlight>& flight);

  // Looks until NCCL has nothing in progress; `code` is what beginning it returned.
  absl::Status Await(int code, const Operation& operation);

 private:
  // What the ranks tell each other first. `*route` is what suits all.
  absl::Status Announce(const NcclFlight& flight, NcclRoute* route);
  // Errors: ResourceExhausted names the lowest rank that does not `have` its `memory`; harmless, on all ranks.
  absl::Status AgreeOnMemory(bool have, const std::string& memory, const Operation& operation);
  absl::Status OnHost(const Operation& operation);
  absl::Status Staged(const Operation& operation);
  absl::Status OnDevice(const std::shared_ptr<NcclFlight>& flight);
  absl::Status CombineRows(const Operation& operation, DeviceQueue queue);
  absl::Status LaunchOnDevice(const Operation& operation);
  // `status` of the control communicator, which the peers know.
  absl::Status ControlFailed(absl::Status status);

  const NcclOptions& options_;
  NcclApi& nccl_;
  NcclHandle& handle_;
  NcclWatch& watch_;
  Communicator& control_;
  NcclStream stream_;
  NcclStaging staging_;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NCCL_NCCL_ENGINE_H_
