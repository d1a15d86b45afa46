// What is known of the network between a job's nodes, from everybody who says something of it. Pure.
#ifndef MUSTER_LAUNCHER_LABELS_NETWORK_H_
#define MUSTER_LAUNCHER_LABELS_NETWORK_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launcher/labels/label_file.h"
#include "launcher/labels/labels.h"
#include "launcher/topology/cluster.h"

namespace muster {

struct NetworkFile {
  LabelFile file;
  std::string text;
};

// A source that was read: a whole cluster with speeds of links and measurements, or labels alone.
struct NetworkSource {
  LabelSet labels;
  Cluster cluster;  // of a cluster file
  bool is_cluster = false;
};

struct KnownNetwork {
  Cluster cluster;                 // the nodes that were asked for, in their order
  std::string source;              // whose word was taken; empty: nobody said anything
  std::vector<std::string> notes;  // contradictions, doubts and what was taken, a sentence each
  bool has_labels() const { return !cluster.levels.empty(); }
};

// Reads files of any kind (label_file.h), most trusted first. `own_keys` and `own_node` as ReadLabelFile.
// Errors: InvalidArgument with file, line and remedy.
absl::StatusOr<std::vector<NetworkSource>> ReadNetworkFiles(const std::vector<NetworkFile>& files, const LabelDialect* own_keys,
                                                            const std::string& own_node);

// The network between `nodes` (names differ) by the first source that knows where any of them stands; no nodes: all that the first source
// knows. Without such a source the cluster has no levels. Errors: InvalidArgument, as ClusterOfLabels.
absl::StatusOr<KnownNetwork> KnowNetwork(const std::vector<NetworkSource>& sources, std::vector<std::string> nodes);

// The part of `cluster` that `nodes` are in, in their order and under the names given here (a cluster's node-a may be the job's
// node-a.example). Nodes that it does not know have empty labels. Links, uplinks and measurements of others are left out.
Cluster SubsetOf(const Cluster& cluster, const std::vector<std::string>& nodes);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_LABELS_NETWORK_H_
