// What the commands about jobs have in common: `muster COMMAND [JOB] [options]`.
#ifndef MUSTER_LAUNCHER_CLI_JOB_ARGUMENT_H_
#define MUSTER_LAUNCHER_CLI_JOB_ARGUMENT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launcher/cli/flags.h"
#include "launcher/cli/help_page.h"
#include "launcher/job/job_list.h"

namespace muster {

// Where this user's jobs are kept.
std::string JobsStateHome();

// The job named before, between or after the flags; empty: none was named. Errors: those of FlagSet, and InvalidArgument for a
// second job.
absl::StatusOr<std::string> ParseJobArgument(FlagSet* flags, const std::vector<std::string>& arguments);

// The whole of it: parses, prints `page` if that is asked for, finds the job (the newest if none is named),
// and says what is wrong. True if the command shall go on with `*job`, else `*exit_code` is its end.
bool TakeJobArgument(FlagSet* flags, const std::vector<std::string>& arguments, const HelpPage& page, StoredJob* job,
                     int* exit_code);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_JOB_ARGUMENT_H_
