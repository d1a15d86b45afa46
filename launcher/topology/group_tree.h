// The groups of a cluster as a tree: what its nodes' labels say.
#ifndef MUSTER_LAUNCHER_TOPOLOGY_GROUP_TREE_H_
#define MUSTER_LAUNCHER_TOPOLOGY_GROUP_TREE_H_

#include <string>
#include <vector>

#include "launcher/topology/cluster.h"

namespace muster {

// Groups are numbered depth first in natural order of their labels, the whole cluster being group 0 on level -1. So the numbers,
// and all orders here, are the same however the cluster's nodes are ordered. Nodes whose label is not known form one group of their
// own below the group above, the last one there.
class GroupTree {
 public:
  struct Group {
    int level = -1;             // index into Cluster::levels
    int parent = -1;            // group number; -1: none
    std::string label;          // "" : not known
    std::vector<int> children;  // group numbers, in natural order; empty on the innermost level
    std::vector<int> nodes;     // of an innermost group (or of group 0 where there are no levels): in natural order of names
    int first = 0;              // its nodes stand at [first, first + size) of natural_order()
    int size = 0;
  };

  // `cluster` has passed CheckCluster; nothing of it is kept.
  explicit GroupTree(const Cluster& cluster);

  int levels() const { return levels_; }
  int nodes() const { return static_cast<int>(natural_order_.size()); }
  const std::vector<Group>& groups() const { return groups_; }
  // Number of groups on `level`, at least 1.
  int GroupsOn(int level) const { return group_counts_[static_cast<size_t>(level)]; }
  // The group of a node (its place in Cluster::nodes) on `level`, -1 to levels() - 1.
  int GroupOf(int node, int level) const {
    return group_of_[static_cast<size_t>(node) * static_cast<size_t>(levels_ + 1) + static_cast<size_t>(level + 1)];
  }
  // The outermost level on which the two nodes are in different groups; levels() where they share all, or are one node.
  int SplitLevel(int a, int b) const;
  // All nodes, group by group: places in Cluster::nodes.
  const std::vector<int>& natural_order() const { return natural_order_; }
  // Where a node stands there.
  int NaturalPlace(int node) const { return natural_place_[static_cast<size_t>(node)]; }
  // The labels of a group, from the outermost level down to its own.
  std::vector<std::string> Labels(int group) const;
  // The group with these labels; -1: none.
  int Find(const std::vector<std::string>& labels) const;

 private:
  int levels_ = 0;
  std::vector<Group> groups_;
  std::vector<int> group_counts_;
  std::vector<int> group_of_;
  std::vector<int> natural_order_;
  std::vector<int> natural_place_;
};

// What in the labels is not wrong but doubtful, a sentence each with what is assumed: nodes without a label, a leaf that seems to lie
// in two racks. At most kDoubtsMax of a kind, then a count.
inline constexpr int kDoubtsMax = 5;
std::vector<std::string> LabelDoubts(const Cluster& cluster, const GroupTree& tree);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_TOPOLOGY_GROUP_TREE_H_
