// NCCL's files on a node: its settings, which we read, and a description of the bus, which we write.
#ifndef MUSTER_LAUNCHER_AGENT_NCCL_FILES_H_
#define MUSTER_LAUNCHER_AGENT_NCCL_FILES_H_

#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace muster {

// The variables that NCCL's own files set for processes of this user: `system_file`, and what NCCL_CONF_FILE of `environment`
// ("NAME=value", the later goes before) names, without it .nccl.conf in the user's folder. Files that are not there say nothing.
std::set<std::string> ConfiguredNcclVariables(const std::vector<std::string>& environment,
                                              const std::string& system_file = "/etc/nccl.conf");

// Writes `xml` to a file in `folder`, in place of an earlier one, and gives its path. Errors: Unavailable, with path and reason.
absl::StatusOr<std::string> WriteNcclTopology(const std::string& folder, const std::string& xml);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_NCCL_FILES_H_
