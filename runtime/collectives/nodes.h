// Which ranks of the world share a node.
#ifndef MUSTER_RUNTIME_COLLECTIVES_NODES_H_
#define MUSTER_RUNTIME_COLLECTIVES_NODES_H_

#include <algorithm>
#include <cstddef>
#include <vector>

namespace muster {

// Immutable. The ranks of a node follow each other, and nodes count up from 0.
struct Nodes {
  int node = 0;            // this rank's
  std::vector<int> first;  // by node: its first rank; at the end the size of the world
  int lanes = 1;           // ranks of the smallest node

  // `node_of_rank` as in NativeOptions, not empty.
  static Nodes Of(const std::vector<int>& node_of_rank, int rank) {
    Nodes nodes;
    for (size_t r = 0; r < node_of_rank.size(); ++r) {
      if (r == 0 || node_of_rank[r] != node_of_rank[r - 1]) nodes.first.push_back(static_cast<int>(r));
    }
    nodes.node = node_of_rank[static_cast<size_t>(rank)];
    nodes.first.push_back(static_cast<int>(node_of_rank.size()));
    nodes.lanes = nodes.ranks(0);
    for (int n = 1; n < nodes.count(); ++n) nodes.lanes = std::min(nodes.lanes, nodes.ranks(n));
    return nodes;
  }

  int count() const { return static_cast<int>(first.size()) - 1; }
  int first_rank(int n) const { return first[static_cast<size_t>(n)]; }
  int ranks(int n) const { return first_rank(n + 1) - first_rank(n); }
  int world_size() const { return first.back(); }
  int node_of(int rank) const {
    return static_cast<int>(std::upper_bound(first.begin(), first.end(), rank) - first.begin()) - 1;
  }
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_COLLECTIVES_NODES_H_
