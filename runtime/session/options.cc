#include "runtime/session/options.h"

#include <algorithm>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

// Set by torchrun and others, Open MPI, and Hydra or Slurm.
constexpr const char* kWorldSizes[] = {"WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"};

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
  const char* socket = variable("MUSTER_SOCKET");
  if (socket == nullptr || *socket == '\0') {
    for (const char* name : kWorldSizes) {
      const char* value = variable(name);
      int64_t size = 0;
      if (value == nullptr || !absl::SimpleAtoi(value, &size) || size <= 1) continue;
      return absl::FailedPreconditionError(
          absl::StrCat(name, "=", value, " says that this process is one of ", size,
                       ", but no muster agent is here (MUSTER_SOCKET is not set): start the program "
                       "with `muster run -np ",
                       size, "`, or unset ", name, " to run it alone"));
    }
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
