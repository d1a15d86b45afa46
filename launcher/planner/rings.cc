#include "launcher/planner/rings.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace muster {
namespace {

size_t At(int index) { return static_cast<size_t>(index); }

using Nodes = std::vector<int>;

// The nodes at [begin, end), which share all levels above `level`, with the members of every group moved on by `by`.
void Rotate(const GroupTree& tree, const Nodes& order, size_t begin, size_t end, int level, size_t by, Nodes* ring) {
  std::vector<size_t> starts;
  for (size_t i = begin; i < end; ++i) {
    const bool same = level < tree.levels() && i > begin && tree.GroupOf(order[i], level) == tree.GroupOf(order[i - 1], level);
    if (!same) starts.push_back(i);
  }
  // The order is a ring: its first nodes and its last may be of one group, where nodes have come and gone.
  for (size_t i = 0; i < starts.size(); ++i) {
    const size_t member = (i + by) % starts.size();
    const size_t from = starts[member], to = member + 1 < starts.size() ? starts[member + 1] : end;
    if (level < tree.levels()) {
      Rotate(tree, order, from, to, level + 1, by, ring);
    } else {
      ring->push_back(order[from]);
    }
  }
}

// `order` begun where a new group of the outermost level that has several begins, so that no group stands at both its ends.
Nodes BegunAtAGroup(const GroupTree& tree, Nodes order) {
  int outermost = tree.levels();
  size_t start = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    const int split = tree.SplitLevel(order[i == 0 ? order.size() - 1 : i - 1], order[i]);
    if (split < outermost) {
      outermost = split;
      start = i;
    }
  }
  std::rotate(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(start), order.end());
  return order;
}

}  // namespace

std::vector<std::vector<int>> PlanRings(const GroupTree& tree, const std::vector<int>& order, int count) {
  std::vector<Nodes> rings = {order};
  const Nodes begun = BegunAtAGroup(tree, order);
  for (int j = 1; j < count; ++j) {
    // Rings 2i and 2i + 1 are the same, there and back: one leaves a group where the other comes in. Then the next two leave it
    // two members on.
    Nodes ring;
    ring.reserve(order.size());
    Rotate(tree, begun, 0, begun.size(), 0, At(j / 2 * 2), &ring);
    if (j % 2 == 1) std::reverse(ring.begin(), ring.end());
    rings.push_back(std::move(ring));
  }
  return rings;
}

int RingCount(const Cluster& cluster) {
  size_t count = kNodeDevicesMax;
  for (const Cluster::Node& node : cluster.nodes) count = std::min(count, node.nics.size());
  return std::max(static_cast<int>(count), 1);
}

int NicOfRing(const Cluster::Node& node, int ring) {
  if (node.nics.empty()) return -1;
  std::vector<int> nics(node.nics.size());
  std::iota(nics.begin(), nics.end(), 0);
  const bool rails = std::all_of(node.nics.begin(), node.nics.end(), [](const Cluster::Nic& nic) { return nic.rail >= 0; });
  if (rails) {
    std::stable_sort(nics.begin(), nics.end(), [&node](int a, int b) { return node.nics[At(a)].rail < node.nics[At(b)].rail; });
  }
  return nics[At(ring) % nics.size()];
}

}  // namespace muster
