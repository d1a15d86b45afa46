// Why a rank is where it is, in sentences.
#ifndef MUSTER_LAUNCHER_PLANNER_EXPLAIN_H_
#define MUSTER_LAUNCHER_PLANNER_EXPLAIN_H_

#include <string>
#include <vector>

#include "launcher/planner/plan.h"
#include "launcher/topology/cluster.h"
#include "launcher/topology/group_tree.h"

namespace muster {

// One sentence an entry: the rank's node, GPU and NIC; its neighbours in the ring and what lies between; what its groups gain by
// standing together; what the order inside its innermost group follows; where the node would be without a plan.
// `rank` is one of plan.ranks.
std::vector<std::string> ExplainRank(const Cluster& cluster, const GroupTree& tree, const Plan& plan, int rank);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PLANNER_EXPLAIN_H_
