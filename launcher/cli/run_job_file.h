// -f job.yaml: what the command line leaves open comes from a file.
#ifndef MUSTER_LAUNCHER_CLI_RUN_JOB_FILE_H_
#define MUSTER_LAUNCHER_CLI_RUN_JOB_FILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "launcher/cli/flags.h"
#include "launcher/yaml/job_file.h"

namespace muster {

struct JobFileOptions {
  std::string path;  // -f; empty: none

  // What the file says and no flag does.
  int64_t workers_min = 0;  // 0: nothing, as below
  int64_t workers_max = 0;
  int64_t workers_per_node = 0;
  int64_t spares = 0;                       // where there are nodes for it
  std::string remote_muster;                // for jobs on other machines; empty: nothing
  std::vector<std::string> environment;     // NAME=VALUE
  std::vector<std::string> without_effect;  // a line for each part that only other ways to start a job look at
};

void DeclareJobFile(FlagSet* flags, JobFileOptions* options);

// Errors: NotFound (it cannot be read), InvalidArgument (each line of the message is one thing that is wrong, with its place).
absl::StatusOr<JobFile> ReadJobFile(const std::string& path);

// Fills the targets of `flags` as if each field had been typed as its flag; flags that are parsed later go before it. `hosts_given`:
// the command line names hosts of its own; `topology_given`: files of --topology-file. `options` gets what is no flag.
// Errors: FailedPrecondition with the file, the place and what that flag has to say.
absl::Status ApplyJobFile(const JobFile& job, bool hosts_given, bool topology_given, FlagSet* flags, JobFileOptions* options);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_RUN_JOB_FILE_H_
