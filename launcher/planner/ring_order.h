// The order of a cluster's nodes in a ring.
//
// Nested order: the nodes of a group follow each other, and so do the groups of the group above. Any cycle through L > 1 groups
// leaves each of them at least once, and nested order leaves each exactly once: it has the fewest crossings there can be, on every
// level at once, and each uplink carries one edge. Nothing better exists in a tree of switches; what is left to choose is the order
// of siblings, which is planned bottleneck first (bottleneck_cycle.h) where links or measurements tell them apart.
#ifndef MUSTER_LAUNCHER_PLANNER_RING_ORDER_H_
#define MUSTER_LAUNCHER_PLANNER_RING_ORDER_H_

#include <vector>

#include "launcher/topology/cluster.h"
#include "launcher/topology/group_tree.h"

namespace muster {

// Why the members of a group stand in the order they do.
enum class OrderedBy {
  kNames,     // nothing tells them apart: natural order of their names
  kLinks,     // the direct links between them
  kMeasured,  // bandwidth and latency between them
};

struct RingOrder {
  std::vector<int> nodes;  // places in Cluster::nodes; neighbours in the ring follow each other, the first follows the last
  std::vector<OrderedBy> ordered_by;  // of each group's members, by group number of the tree
};

// The order for `rings` rings that follow it both ways round when there are several (then an edge is as good as its worse
// direction). Independent of the order of cluster.nodes and of everything else in the struct.
// Groups of more than kSearchedMax members are ordered by names whatever was measured.
inline constexpr int kSearchedMax = 512;
RingOrder PlanOrder(const Cluster& cluster, const GroupTree& tree, int rings);

// `ring` with `node` put where it adds the fewest crossings, the outermost level first; of such places where the slower of its two
// steps is measured the fastest, then where both together have the least latency (a way that is not measured counts as the median of
// those of `node`); and there behind its neighbour in natural order. Two edges are new, one is gone, all others stay. A ring with the
// fewest crossings possible still has them.
std::vector<int> Extend(const Cluster& cluster, const GroupTree& tree, std::vector<int> ring, int node);

// `ring` without `node`: two edges are gone, one is new. A ring with the fewest crossings possible still has them.
std::vector<int> Shrink(std::vector<int> ring, int node);

// What a ring's edges cross on one level.
struct Crossings {
  int groups = 0;     // that the ring has nodes in
  int crossings = 0;  // edges from one group to another
  int worst = 0;      // edges that leave the group that most leave
};

// One entry a level, outermost first. A ring of one node has no edges.
std::vector<Crossings> CountCrossings(const GroupTree& tree, const std::vector<int>& ring);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PLANNER_RING_ORDER_H_
