// A world whose collectives NCCL runs, over the ranks of a native one.
#ifndef MUSTER_RUNTIME_SESSION_NCCL_WORLD_H_
#define MUSTER_RUNTIME_SESSION_NCCL_WORLD_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/communicator.h"
#include "muster/session.h"
#include "runtime/shm/failure.h"

namespace muster {

// What the session gives an NCCL communicator, as in NcclOptions.
struct NcclWorldOptions {
  std::string nccl_library;  // SessionOptions
  std::string cuda_library;
  std::string nccl_host_id;
  int local_rank = 0;
  std::string host;  // this node's, for messages
  absl::Time deadline = absl::InfiniteFuture();
  std::function<absl::Status(Communicator& control)> interrupted;
  std::function<void(Communicator& control, const Failure&)> failed;
};

// Whether this machine seems to have an NVIDIA GPU. Cheap; opens nothing.
bool MachineHasGpu();

// Collective over `*native`, which becomes the new communicator's. With an error of FailedPrecondition that all ranks get, it is left.
// A rank's GPU is number local_rank of those its process sees, counted round.
// Errors: FailedPrecondition: not every rank has the CUDA runtime, a GPU of its own and NCCL; one sentence says which, why and what to
// do. Those of CreateNcclCommunicator.
absl::StatusOr<std::unique_ptr<Communicator>> MakeNcclWorld(std::unique_ptr<Communicator>* native, NcclWorldOptions options);

// What backend "auto" comes to: MakeNcclWorld where every rank's machine has a GPU, else `native` as it is. Says on stderr which it is,
// once and by rank 0, where there are GPUs. `one_machine`: no other machine can differ from this one, and is not asked.
absl::StatusOr<std::unique_ptr<Communicator>> ChooseWorld(std::unique_ptr<Communicator> native, bool one_machine,
                                                          NcclWorldOptions options);

}  // namespace muster

#endif  // MUSTER_RUNTIME_SESSION_NCCL_WORLD_H_
