// A cluster as people look at it: a tree of text, and a drawing.
#ifndef MUSTER_LAUNCHER_TOPOLOGY_CLUSTER_PICTURE_H_
#define MUSTER_LAUNCHER_TOPOLOGY_CLUSTER_PICTURE_H_

#include <string>
#include <vector>

#include "launcher/topology/cluster.h"

namespace muster {

// `cluster` has passed CheckCluster. A line for each group, indented below the one that it is in, with its size and uplink; the nodes of a group behind it as ranges.
// Groups and names are in natural order (leaf2 before leaf10):
//
//   spine s0          64 nodes, uplink 400 Gbit/s
//     leaf l1         32 nodes  node[01-32]
//     leaf l2         32 nodes  node[33-64]
//   without a leaf    2 nodes  node[65-66]
std::string ClusterTree(const Cluster& cluster);

// The same as one SVG document: groups are boxes in boxes with their uplinks, nodes are small boxes with their names as long as there
// is room for them, and counts where there are more than kDrawnNodesMax nodes. GPUs and NICs of up to kDetailedNodesMax nodes are drawn
// inside them, by memory node, each GPU with its NVLinks and its nearest NIC.
inline constexpr size_t kDrawnNodesMax = 2048;
inline constexpr size_t kDetailedNodesMax = 4;
std::string ClusterSvg(const Cluster& cluster, const std::string& title);

// node01 node02 node03 login -> "node[01-03],login", as Slurm writes it. Sorts naturally; longer than `bytes_max` is cut with "...".
std::string RangesText(std::vector<std::string> names, size_t bytes_max = 200);

// A group's own uplink, else its level's; 0: not known.
double UplinkOfGroup(const Cluster& cluster, const std::vector<std::string>& labels);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_TOPOLOGY_CLUSTER_PICTURE_H_
