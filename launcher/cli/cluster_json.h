// A cluster as JSON that muster reads again as a cluster file.
#ifndef MUSTER_LAUNCHER_CLI_CLUSTER_JSON_H_
#define MUSTER_LAUNCHER_CLI_CLUSTER_JSON_H_

#include <string>

#include "launcher/topology/cluster.h"

namespace muster {

// The fields of docs/topology.md, one object in some lines: levels, nodes, uplinks, links, measurements.
std::string ClusterJson(const Cluster& cluster);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_CLUSTER_JSON_H_
