// Trees for messages so small that their time is the number of steps they take.
//
// A tree over P nodes takes about 2 log2 P steps where a ring takes 2(P-1). Two trees share the work: a node that passes messages on
// in one has nothing to pass on in the other.
// Source: Sanders, Speck and Traeff, Parallel Computing 35 (2009) 581-594, whose pair of trees is built here inside each group.
#ifndef MUSTER_LAUNCHER_PLANNER_TREES_H_
#define MUSTER_LAUNCHER_PLANNER_TREES_H_

#include <vector>

#include "launcher/topology/group_tree.h"

namespace muster {

struct ReductionTree {
  std::vector<int> parent;  // by place in Cluster::nodes; -1: the root, and nodes that are not in the tree
  int root = -1;
};

// Two trees over the nodes of `order`, a nested one. In each the members of every group (nodes of a leaf, leaves of a rack, ...) are
// a binary tree of their own, whose root stands for the group in the one above. So of L groups on any level exactly L - 1 edges
// cross, which is the least there can be, and the depth is at most the sum over the levels of the depth of a binary tree.
// Among the nodes of a group none has children of that group in both trees.
std::vector<ReductionTree> PlanTrees(const GroupTree& tree, const std::vector<int>& order);

// Edges from the root to the farthest node.
int DepthOf(const ReductionTree& tree, const std::vector<int>& order);

// By level, outermost first: edges whose ends are in different groups.
std::vector<int> CountTreeCrossings(const GroupTree& groups, const ReductionTree& tree);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PLANNER_TREES_H_
