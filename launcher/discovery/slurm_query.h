// Asks Slurm for its network: `scontrol show topology`.
#ifndef MUSTER_LAUNCHER_DISCOVERY_SLURM_QUERY_H_
#define MUSTER_LAUNCHER_DISCOVERY_SLURM_QUERY_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace muster {

// What the command prints, for ReadSlurmTopologyConf; a controller that does not answer within `at_most` is given up. Blocks; called where
// a person asks, never at a job's start.
// Errors: NotFound (no scontrol in PATH), Unavailable (it fails, says nothing, or takes too long), each a sentence.
absl::StatusOr<std::string> ShowSlurmTopology(absl::Duration at_most, const std::string& scontrol = "scontrol");

}  // namespace muster

#endif  // MUSTER_LAUNCHER_DISCOVERY_SLURM_QUERY_H_
