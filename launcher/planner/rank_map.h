// Which rank runs on which node, and which NIC its GPU uses.
//
// NCCL puts nodes in the order in which ranks first name them, and knows nothing of switches: ranks that follow the ring, node by
// node, are how a plan reaches it. Source: NCCL 2.28, ncclTopoPostset and the ring search of graph/search.cc.
#ifndef MUSTER_LAUNCHER_PLANNER_RANK_MAP_H_
#define MUSTER_LAUNCHER_PLANNER_RANK_MAP_H_

#include <vector>

#include "launcher/topology/cluster.h"

namespace muster {

// A NIC for each GPU of `node`, -1 each where it has none. NICs serve as equally many GPUs as can be; among all such ways the one
// with the least distances in all, counted so that one farther GPU weighs more than any number of nearer ones; without distances a
// NIC of the same NUMA node is nearer than another. GPUs are served in order, and of equal NICs the lowest is taken.
std::vector<int> NicsOfGpus(const Cluster::Node& node);

struct RankPlace {
  int node = 0;        // place in Cluster::nodes
  int local_rank = 0;  // 0 and up on each node
  int gpu = -1;        // that of the same number; -1: there is none
  int nic = -1;        // of that GPU, or of the local rank where there is none; -1: not known
};

// All ranks, in order: node after node, local ranks together. `ranks_per_node` 0: one for each GPU, and one on nodes without.
std::vector<RankPlace> MapRanks(const Cluster& cluster, const std::vector<int>& order, int ranks_per_node);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PLANNER_RANK_MAP_H_
