#include "runtime/session/nccl_world.h"

#include <unistd.h>

#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/backend/nccl/nccl.h"
#include "runtime/backend/nccl/nccl_library.h"
#include "runtime/backend/nccl/nccl_seats.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/device/cuda_library.h"
#include "runtime/device/kernels_library.h"

namespace muster {
namespace {

constexpr char kOrNative[] = "; or leave --backend nccl and MUSTER_BACKEND out, for collectives on the CPU";

// What tells this machine from others whose GPUs are plugged in at the same place: containers of one machine share it.
std::string Machine(const NcclWorldOptions& options) {
  if (!options.nccl_host_id.empty()) return absl::StrCat("NCCL_HOSTID ", options.nccl_host_id);
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  return absl::StrCat("boot ", boot);
}

// Opens what NCCL needs, and fills in this rank's seat and device.
absl::Status TakeSeat(const NcclWorldOptions& options, NcclOptions* nccl, NcclSeat* seat) {
  MUSTER_ASSIGN_OR_RETURN(nccl->cuda, OpenCudaLibrary(options.cuda_library));
  MUSTER_ASSIGN_OR_RETURN(const int gpus, UsableGpus(*nccl->cuda));
  MUSTER_ASSIGN_OR_RETURN(nccl->nccl, OpenNcclLibrary(options.nccl_library));
  nccl->device = options.local_rank % gpus;
  char bus[32] = "";
  if (const int code = nccl->cuda->BusId(nccl->device, bus, sizeof bus); code != kCudaOk) {
    char words[200] = "";
    nccl->cuda->ErrorText(code, words, sizeof words);
    return absl::FailedPreconditionError(
        absl::StrCat("GPU ", nccl->device, " cannot be used: ", words, "; look at `nvidia-smi`"));
  }
  seat->library = nccl->nccl->library();
  seat->gpu = absl::StrCat(bus, " (", options.host, options.host.empty() ? "" : ", ", Machine(options), ")");
  return absl::OkStatus();
}

void Say(const std::string& text) {
  const std::string line = absl::StrCat("muster: ", text, "\n");
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace

bool MachineHasGpu() {
  for (const char* file : {"/dev/nvidiactl", "/dev/dxg"}) {
    if (::access(file, F_OK) == 0) return true;
  }
  return false;
}

absl::StatusOr<std::unique_ptr<Communicator>> MakeNcclWorld(std::unique_ptr<Communicator>* native, NcclWorldOptions options) {
  NcclOptions nccl;
  NcclSeat seat;
  seat.usable = TakeSeat(options, &nccl, &seat);
  Communicator& control = **native;
  const absl::Status seated = AgreeOnSeats(control, seat, options.deadline);
  if (absl::IsFailedPrecondition(seated)) {
    return absl::FailedPreconditionError(absl::StrCat("the NCCL backend cannot be used: ", seated.message(), kOrNative));
  }
  MUSTER_RETURN_IF_ERROR(seated);
  MUSTER_ASSIGN_OR_RETURN(nccl.ids, ExchangeNcclIds(*nccl.nccl, control, options.deadline));
  if (auto kernels = OpenCudaKernels(); kernels.ok()) nccl.kernels = *kernels;
  nccl.interrupted = std::move(options.interrupted);
  nccl.failed = std::move(options.failed);
  nccl.warn = [](const std::string& line) { Log(LogLevel::kWarning, line); };
  nccl.control = std::move(*native);
  return CreateNcclCommunicator(std::move(nccl));
}

absl::StatusOr<std::unique_ptr<Communicator>> ChooseWorld(std::unique_ptr<Communicator> native, bool one_machine,
                                                          NcclWorldOptions options) {
  int32_t have = MachineHasGpu() ? 1 : 0;
  if (!one_machine) MUSTER_RETURN_IF_ERROR(native->AllReduce(MakeTensor(&have, 1), ReduceOp::kMin, options.deadline));
  if (have == 0) return native;
  const int rank = native->rank();
  const int ranks = native->world_size();
  auto world = MakeNcclWorld(&native, std::move(options));
  if (native == nullptr) {
    if (world.ok() && rank == 0)
      Say(absl::StrCat("collectives by NCCL, ", ranks, " ranks with a GPU each (--backend native: on the CPU)"));
    return world;
  }
  if (!absl::IsFailedPrecondition(world.status())) return world.status();
  if (rank == 0)
    Say(absl::StrCat("collectives on the CPU (--backend native says that this is meant): ", world.status().message()));
  return native;
}

}  // namespace muster
