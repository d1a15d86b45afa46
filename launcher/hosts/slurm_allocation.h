// The hosts of the allocation of Slurm that this process is in.
#ifndef MUSTER_LAUNCHER_HOSTS_SLURM_ALLOCATION_H_
#define MUSTER_LAUNCHER_HOSTS_SLURM_ALLOCATION_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launcher/hosts/host.h"

namespace muster {

// A variable of the environment; nothing where it is not set.
using VariableOf = std::function<std::optional<std::string>(const char* name)>;

// Node by node as Slurm counts them, named as Slurm names them. Slots are what Slurm would start tasks for (SLURM_TASKS_PER_NODE),
// else the cores that the job has there (SLURM_JOB_CPUS_PER_NODE), else unknown. Empty outside an allocation: SLURM_JOB_ID or
// SLURM_JOB_NODELIST is not set.
// Errors: InvalidArgument with the variable, for lists that nobody can read or that do not fit together; and in a task of a step of
// several tasks (`srun -n4 muster run`), where each would start the whole job.
// Source: sbatch(1), "Output environment variables"; srun(1).
absl::StatusOr<std::vector<Host>> FindSlurmAllocation(const VariableOf& variable);

// "2(x3),1" -> 2 2 2 1. Errors: InvalidArgument, also for more than kHostsMax numbers.
absl::StatusOr<std::vector<int64_t>> ParseSlurmCounts(absl::string_view text);

// "node[01-03,07],login" -> node01 node02 node03 node07 login. Errors: InvalidArgument, also for more than kHostsMax names.
absl::StatusOr<std::vector<std::string>> ParseSlurmNodeList(absl::string_view text);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_HOSTS_SLURM_ALLOCATION_H_
