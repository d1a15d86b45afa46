#include "launcher/planner/trees.h"

#include <algorithm>
#include <utility>

namespace muster {
namespace {

size_t At(int index) { return static_cast<size_t>(index); }

// Parents in an in-order binary tree of places 1 .. size: every odd place is a leaf. Returns the root.
// parent[i] is that of place i; 0 at the root.
int InOrderParents(int size, std::vector<int>* parent) {
  parent->assign(At(size + 1), 0);
  int root = 1;
  while (root * 2 <= size) root *= 2;
  for (int place = 1; place <= size; ++place) {
    if (place == root) continue;
    // One step up from a place with lowest bit b: the place with bit 2b set and b cleared; as often as it lies outside.
    int up = place, bit = place & -place;
    do {
      up = (up & ~bit) | (bit << 1);
      bit <<= 1;
    } while (up > size);
    (*parent)[At(place)] = up;
  }
  return root;
}

class Builder {
 public:
  Builder(const GroupTree& groups, const std::vector<int>& order, bool second)
      : groups_(groups), order_(order), second_(second) {
    tree_.parent.assign(At(groups.nodes()), -1);
  }

  ReductionTree Take() {
    if (!order_.empty()) tree_.root = Join(0, order_.size(), 0);
    return std::move(tree_);
  }

 private:
  // Makes the nodes at [begin, end), which share all levels above `level`, one tree; returns its root.
  int Join(size_t begin, size_t end, int level) {
    std::vector<int> roots;
    for (size_t start = begin; start < end;) {
      size_t stop = start + 1;
      if (level < groups_.levels()) {
        while (stop < end && groups_.GroupOf(order_[stop], level) == groups_.GroupOf(order_[start], level)) ++stop;
        roots.push_back(Join(start, stop, level + 1));
      } else {
        roots.push_back(order_[start]);
      }
      start = stop;
    }
    const int size = static_cast<int>(roots.size());
    std::vector<int> parent;
    const int root = InOrderParents(size, &parent);
    for (int place = 1; place <= size; ++place) {
      if (place != root) tree_.parent[At(roots[At(Member(place, size))])] = roots[At(Member(parent[At(place)], size))];
    }
    return roots[At(Member(root, size))];
  }

  // Who stands at a place. Leaves stand at odd places; the second tree is mirrored where their number is even and shifted by one
  // where it is odd, so that members with an odd place here have an even one there.
  int Member(int place, int size) const {
    if (!second_) return place - 1;
    return size % 2 == 0 ? size - place : place % size;
  }

  const GroupTree& groups_;
  const std::vector<int>& order_;
  const bool second_;
  ReductionTree tree_;
};

}  // namespace

std::vector<ReductionTree> PlanTrees(const GroupTree& tree, const std::vector<int>& order) {
  std::vector<int> begun = order;
  // Where the ring is written down from the middle of a group, that group would be two.
  int outermost = tree.levels();
  size_t start = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    const int split = tree.SplitLevel(order[i == 0 ? order.size() - 1 : i - 1], order[i]);
    if (split >= outermost) continue;
    outermost = split;
    start = i;
  }
  std::rotate(begun.begin(), begun.begin() + static_cast<std::ptrdiff_t>(start), begun.end());
  return {Builder(tree, begun, false).Take(), Builder(tree, begun, true).Take()};
}

int DepthOf(const ReductionTree& tree, const std::vector<int>& order) {
  int depth = 0;
  for (const int node : order) {
    int steps = 0;
    for (int at = node; tree.parent[At(at)] >= 0; at = tree.parent[At(at)]) ++steps;
    depth = std::max(depth, steps);
  }
  return depth;
}

std::vector<int> CountTreeCrossings(const GroupTree& groups, const ReductionTree& tree) {
  std::vector<int> crossings(At(groups.levels()), 0);
  for (int node = 0; node < static_cast<int>(tree.parent.size()); ++node) {
    if (tree.parent[At(node)] < 0) continue;
    for (int level = groups.SplitLevel(node, tree.parent[At(node)]); level < groups.levels(); ++level) ++crossings[At(level)];
  }
  return crossings;
}

}  // namespace muster
