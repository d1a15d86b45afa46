// Files that describe clusters, of whichever kind.
#ifndef MUSTER_LAUNCHER_CLI_CLUSTER_SOURCE_H_
#define MUSTER_LAUNCHER_CLI_CLUSTER_SOURCE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launcher/topology/cluster.h"

namespace muster {

struct ClusterSource {
  Cluster cluster;                 // has passed CheckCluster
  std::vector<std::string> notes;  // what the file leaves out or contradicts, and what was taken instead
};

// Reads what `word`, "[KIND:]FILE", names: a cluster file, Slurm's topology.conf or topology.yaml, nodes of Kubernetes as JSON
// (labels/label_file.h has the kinds).
// Errors: NotFound for a file that cannot be read; InvalidArgument, with file, line and remedy, for what is in it.
absl::StatusOr<ClusterSource> ReadCluster(const std::string& flag, const std::string& word);

// `cluster` with the nodes of these names alone, and what concerns them: their groups' links, measurements between them.
// Errors: NotFound for a name that it does not have, with the nearest that it has.
absl::StatusOr<Cluster> ChooseNodes(const Cluster& cluster, const std::string& flag, const std::vector<std::string>& names);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_CLUSTER_SOURCE_H_
