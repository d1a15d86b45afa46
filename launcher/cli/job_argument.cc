#include "launcher/cli/job_argument.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/cli/console.h"
#include "launcher/cli/own_environment.h"
#include "launcher/job/job_folder.h"
#include "launcher/process/exit_codes.h"
#include "runtime/base/status.h"

namespace muster {

std::string JobsStateHome() {
  bool fallback = false;
  return StateHome(Variable("XDG_STATE_HOME"), Variable("HOME"), TemporaryFolder(), &fallback);
}

absl::StatusOr<std::string> ParseJobArgument(FlagSet* flags, const std::vector<std::string>& arguments) {
  std::string job;
  MUSTER_ASSIGN_OR_RETURN(std::vector<std::string> rest, flags->Parse(arguments));
  while (!rest.empty() && !flags->help_wanted()) {
    if (!job.empty()) return absl::InvalidArgumentError(absl::StrCat("one job at a time: ", job, " or ", rest[0]));
    job = rest[0];
    if (job.empty()) return absl::InvalidArgumentError("a job's id is not empty; leave it out for the newest job");
    MUSTER_ASSIGN_OR_RETURN(rest, flags->Parse(std::vector<std::string>(rest.begin() + 1, rest.end())));
  }
  return job;
}

bool TakeJobArgument(FlagSet* flags, const std::vector<std::string>& arguments, const HelpPage& page, StoredJob* job,
                     int* exit_code) {
  const auto named = ParseJobArgument(flags, arguments);
  if (flags->help_wanted()) {
    *exit_code = Print(HelpText(page));
    return false;
  }
  auto found = named.ok() ? FindJob(JobsStateHome(), *named) : named.status();
  if (!found.ok()) {
    *exit_code = UsageError(found.status().message());
    return false;
  }
  *job = *std::move(found);
  return true;
}

}  // namespace muster
