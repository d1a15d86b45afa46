// Several rings over the same nodes, one for each NIC of a node.
#ifndef MUSTER_LAUNCHER_PLANNER_RINGS_H_
#define MUSTER_LAUNCHER_PLANNER_RINGS_H_

#include <vector>

#include "launcher/topology/cluster.h"
#include "launcher/topology/group_tree.h"

namespace muster {

// `count` rings made of `order`, a nested one; ring j is for the j-th NIC of every node. Each has as few crossings as `order`.
// Inside every group the rings begin at different members, and every second one runs the other way round, so that the edges which
// leave a group leave it from different nodes (and those that leave a rack from different leaves), as far as it has enough of them.
std::vector<std::vector<int>> PlanRings(const GroupTree& tree, const std::vector<int>& order, int count);

// How many rings `cluster` can have: the fewest NICs of any node, and at least 1.
int RingCount(const Cluster& cluster);

// The NIC of `node` that ring j goes through: the one on the j-th rail where its NICs have rails, else the j-th. -1: the node has
// no NICs that are known.
int NicOfRing(const Cluster::Node& node, int ring);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PLANNER_RINGS_H_
