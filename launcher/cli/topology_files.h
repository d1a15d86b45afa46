// The flags that say where nodes stand in the network, and the files that they name.
#ifndef MUSTER_LAUNCHER_CLI_TOPOLOGY_FILES_H_
#define MUSTER_LAUNCHER_CLI_TOPOLOGY_FILES_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launcher/cli/flags.h"
#include "launcher/labels/kubernetes_labels.h"
#include "launcher/labels/network.h"

namespace muster {

struct TopologyFileOptions {
  std::vector<std::string> files;  // [KIND:]FILE, the most trusted first
  std::string label_keys;          // of Kubernetes; empty: the known dialects
};

// Declares `flag` for the files ("--labels-from" or "--topology-file") and --label-keys.
void DeclareTopologyFiles(FlagSet* flags, const std::string& flag, TopologyFileOptions* options);

// The texts of the files; "-" is standard input, once. Errors: InvalidArgument, NotFound, with the flag and the remedy.
absl::StatusOr<std::vector<NetworkFile>> ReadTopologyFiles(const std::string& flag, const TopologyFileOptions& options);

// The text of a file that `flag` names. Errors: NotFound, InvalidArgument (it is too large), with both.
absl::StatusOr<std::string> ReadTextFile(const std::string& flag, const std::string& path);

// One's own keys, if there are any. Errors: InvalidArgument with the flag.
absl::StatusOr<std::optional<LabelDialect>> OwnLabelKeys(const TopologyFileOptions& options);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_TOPOLOGY_FILES_H_
