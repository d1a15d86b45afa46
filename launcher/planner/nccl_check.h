// NCCL's rings beside the plan. Pure.
#ifndef MUSTER_LAUNCHER_PLANNER_NCCL_CHECK_H_
#define MUSTER_LAUNCHER_PLANNER_NCCL_CHECK_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launcher/planner/nccl_log.h"
#include "launcher/planner/plan.h"
#include "launcher/topology/cluster.h"
#include "launcher/topology/group_tree.h"

namespace muster {

// How a ring stands to the planned order of nodes.
enum class Follows {
  kPlan,        // the same order, from wherever and whichever way round
  kOtherOrder,  // another order that crosses no more than the plan on any level
  kNot,         // it crosses more, or comes to a node more than once
  kUnknown,     // the log does not tell the ring in full
};

struct NcclRingCheck {
  std::vector<int>
      nodes;  // places in Cluster::nodes as the ring comes to them; a node that it comes to twice stands there twice
  std::vector<int> crossings;  // by level, outermost first
  Follows follows = Follows::kUnknown;
  std::string difference;  // a sentence: the first step that is not in the plan, and what that costs; empty where there is none
};

struct NcclCheck {
  std::vector<int> planned;          // crossings of the planned order, by level
  std::vector<NcclRingCheck> rings;  // by channel
  std::vector<std::string> doubts;   // what was assumed, a sentence each
  // The worst of the rings that are known.
  Follows worst() const;
};

// The node of each rank is that of its host, whose name may be shorter or longer than the cluster's by the domain; a rank that has not
// said its host is taken to be where the plan puts it. Errors: NotFound for a host that the cluster does not have, with the nearest;
// InvalidArgument where hosts are not said and the plan has another number of ranks.
absl::StatusOr<NcclCheck> CheckNcclRings(const Cluster& cluster, const GroupTree& tree, const Plan& plan,
                                         const NcclRings& nccl);

// The node's place of each host that is named, in order of ranks, each once. Errors as above.
absl::StatusOr<std::vector<std::string>> NodesOfNcclHosts(const Cluster& cluster, const NcclRings& nccl);

// A table of crossings and a sentence a ring that differs; then whether NCCL follows the plan.
std::string NcclCheckText(const Cluster& cluster, const NcclCheck& check);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PLANNER_NCCL_CHECK_H_
