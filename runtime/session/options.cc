#include "runtime/session/options.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

// Set by torchrun and others, Open MPI, and Hydra or Slurm.
constexpr char kOpenMpiSize[] = "OMPI_COMM_WORLD_SIZE";
constexpr const char* kWorldSizes[] = {"WORLD_SIZE", kOpenMpiSize, "PMI_SIZE"};

using Variable = absl::FunctionRef<const char*(const char*)>;

// 0 where the variable is not set or says something else.
int64_t NumberIn(Variable variable, const char* name) {
  const char* value = variable(name);
  int64_t number = 0;
  return value != nullptr && absl::SimpleAtoi(value, &number) ? number : 0;
}

absl::Status ReadBackend(Variable variable, SessionOptions& options) {
  const char* backend = variable("MUSTER_BACKEND");
  options.backend = backend == nullptr || std::string(backend) == "auto" ? "" : backend;
  const std::string& chosen = options.backend;
  if (!chosen.empty() && chosen != kNativeBackend && chosen != kNcclBackend && chosen != kMpiBackend) {
    return absl::InvalidArgumentError(
        absl::StrCat("MUSTER_BACKEND=", chosen, " names no backend; set it to auto, native, nccl or mpi"));
  }
  const std::pair<const char*, std::string*> texts[] = {{"MUSTER_MPI_LIBRARY", &options.mpi_library},
                                                        {"MUSTER_NCCL_LIBRARY", &options.nccl_library},
                                                        {"MUSTER_CUDA_LIBRARY", &options.cuda_library},
                                                        {"NCCL_HOSTID", &options.nccl_host_id}};
  for (const auto& [name, to] : texts) {
    const char* value = variable(name);
    *to = value == nullptr ? "" : value;
  }
  return absl::OkStatus();
}

// Without an agent: mpirun's processes are a world by MPI, other launchers' are turned away.
absl::Status ReadOtherLaunchers(Variable variable, SessionOptions& options) {
  if (options.backend.empty() && NumberIn(variable, kOpenMpiSize) > 1) options.backend = kMpiBackend;
  if (options.backend == kMpiBackend) {
    options.world_size = static_cast<int32_t>(NumberIn(variable, kOpenMpiSize));
    options.local_rank = static_cast<int32_t>(NumberIn(variable, "OMPI_COMM_WORLD_LOCAL_RANK"));
    options.local_world_size = static_cast<int32_t>(std::max<int64_t>(1, NumberIn(variable, "OMPI_COMM_WORLD_LOCAL_SIZE")));
    return absl::OkStatus();
  }
  for (const char* name : kWorldSizes) {
    const int64_t size = NumberIn(variable, name);
    if (size <= 1) continue;
    return absl::FailedPreconditionError(absl::StrCat(name, "=", size, " says that this process is one of ", size,
                                                      ", but no muster agent is here (MUSTER_SOCKET is not set): start the "
                                                      "program with `muster run -np ",
                                                      size, "`, or unset ", name, " to run it alone"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> JobIdBytes(absl::string_view digits) {
  if (digits.size() != 32 || !std::all_of(digits.begin(), digits.end(), absl::ascii_isxdigit)) {
    return absl::InvalidArgumentError(
        absl::StrCat("MUSTER_JOB_ID=", digits, " is not 32 hexadecimal digits; `muster run` sets it, leave it as it is"));
  }
  return absl::HexStringToBytes(digits);
}

absl::StatusOr<SessionOptions> SessionOptionsFrom(absl::FunctionRef<const char*(const char*)> variable) {
  SessionOptions options;
  MUSTER_RETURN_IF_ERROR(ReadBackend(variable, options));
  const char* socket = variable("MUSTER_SOCKET");
  if (socket == nullptr || *socket == '\0') {
    MUSTER_RETURN_IF_ERROR(ReadOtherLaunchers(variable, options));
    return options;
  }
  options.socket = socket;
  const char* job_id = variable("MUSTER_JOB_ID");
  options.job_id = job_id == nullptr ? "" : job_id;
  MUSTER_RETURN_IF_ERROR(JobIdBytes(options.job_id).status());
  const char* slot = variable("MUSTER_SLOT");
  if (slot == nullptr || !absl::SimpleAtoi(slot, &options.slot) || options.slot < 0) {
    return absl::InvalidArgumentError(absl::StrCat("MUSTER_SLOT=", slot == nullptr ? "" : slot,
                                                   " is no number of a slot; `muster run` sets it, leave it as it is"));
  }
  return options;
}

absl::StatusOr<SessionOptions> SessionOptionsFromEnvironment() {
  return SessionOptionsFrom([](const char* name) -> const char* { return std::getenv(name); });
}

}  // namespace muster
