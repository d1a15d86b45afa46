// What is planned for a cluster: the order of its nodes, rings, trees, and the ranks on them.
#ifndef MUSTER_LAUNCHER_PLANNER_PLAN_H_
#define MUSTER_LAUNCHER_PLANNER_PLAN_H_

#include <string>
#include <vector>

#include "launcher/planner/rank_map.h"
#include "launcher/planner/ring_order.h"
#include "launcher/planner/trees.h"
#include "launcher/topology/cluster.h"
#include "launcher/topology/group_tree.h"

namespace muster {

struct PlanOptions {
  int ranks_per_node = 0;  // 0: one for each GPU, and one on nodes without
  int rings = 0;           // 0: one for each NIC of the node with the fewest
};

struct Plan {
  RingOrder order;
  std::vector<std::vector<int>> rings;  // the first is order.nodes
  std::vector<ReductionTree> trees;     // two
  std::vector<RankPlace> ranks;
  std::vector<int> first_rank;  // by place in Cluster::nodes
  std::vector<std::string>
      doubts;  // what was assumed where the cluster says too little, or contradicts itself; a sentence each
};

// `cluster` has passed CheckCluster; `tree` is its tree. The same cluster gives the same plan, however its parts are ordered.
Plan MakePlan(const Cluster& cluster, const GroupTree& tree, const PlanOptions& options);

// What programs do that plan nothing. torchrun sorts host names as text: node10 before node2.
std::vector<int> HostNameOrder(const Cluster& cluster);
// The same for the same set of names and seed.
std::vector<int> RandomOrder(const GroupTree& tree, uint64_t seed);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PLANNER_PLAN_H_
