#include "launcher/planner/ring_order.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/planner/bottleneck_cycle.h"
#include "launcher/planner/sibling_costs.h"

namespace muster {
namespace {

size_t At(int index) { return static_cast<size_t>(index); }

std::vector<int> BestCycle(const EdgeCosts& costs) {
  return costs.size() <= kExactCycleMax ? ExactCycle(costs) : SearchCycle(costs);
}

// The members 0 .. size - 1 as a cycle that begins with the first, in the direction in which the lower neighbour comes first if
// both cost the same: of all ways to write the cycle down always the same one.
std::vector<int> OrderOfCycle(const EdgeCosts& costs) {
  std::vector<int> cycle = BestCycle(costs);
  std::rotate(cycle.begin(), std::find(cycle.begin(), cycle.end(), 0), cycle.end());
  if (cycle.size() > 2 && cycle[1] > cycle.back() && costs.IsSymmetric()) std::reverse(cycle.begin() + 1, cycle.end());
  return cycle;
}

// The same as a path, whose two ends lead out of the group: a cycle with one more member that everybody reaches for nothing.
std::vector<int> OrderOfPath(const EdgeCosts& costs) {
  const int size = costs.size();
  EdgeCosts open(size + 1);
  for (int i = 0; i < size; ++i) {
    for (int j = 0; j < size; ++j) open.Set(i, j, costs.slowness(i, j), costs.latency(i, j));
  }
  std::vector<int> path = BestCycle(open);
  std::rotate(path.begin(), std::find(path.begin(), path.end(), size), path.end());
  path.erase(path.begin());
  if (path.front() > path.back() && costs.IsSymmetric()) std::reverse(path.begin(), path.end());
  return path;
}

class Nesting {
 public:
  Nesting(const Cluster& cluster, const GroupTree& tree, int rings) : tree_(tree), costs_(cluster, tree), rings_(rings) {
    order_.nodes.reserve(cluster.nodes.size());
    order_.ordered_by.assign(tree.groups().size(), OrderedBy::kNames);
  }

  RingOrder Take() {
    Append(0);
    return std::move(order_);
  }

 private:
  void Append(int number) {
    const GroupTree::Group& group = tree_.groups()[At(number)];
    const std::vector<int>& members = group.children.empty() ? group.nodes : group.children;
    for (const int member : Order(number, static_cast<int>(members.size()))) {
      if (group.children.empty()) {
        order_.nodes.push_back(members[At(member)]);
      } else {
        Append(members[At(member)]);
      }
    }
  }

  std::vector<int> Order(int number, int size) {
    std::vector<int> natural(At(size));
    std::iota(natural.begin(), natural.end(), 0);
    if (size < 2) return natural;
    const std::optional<EdgeCosts> costs = costs_.Between(number, rings_ > 1);
    if (!costs) return natural;
    order_.ordered_by[At(number)] = costs_.Source(number);
    // Several rings begin at different members, so the step from the last to the first is one of some ring.
    const bool closed = rings_ > 1 || tree_.groups()[At(number)].size == tree_.nodes();
    return closed ? OrderOfCycle(*costs) : OrderOfPath(*costs);
  }

  const GroupTree& tree_;
  const SiblingCosts costs_;
  const int rings_;
  RingOrder order_;
};

// The nested order, group by group, does not see which node of one group reaches which of the next well. Measured pairs tell: the
// whole ring once more, among the orders with as few crossings.
void ImproveAcrossGroups(const Cluster& cluster, const GroupTree& tree, int rings, std::vector<int>* order) {
  const int size = tree.nodes();
  // Where pairs are missing, or direct links decide, or several rings leave a group from different nodes, there is nothing to gain.
  const bool all_pairs = cluster.measurements.size() == At(size) * At(size - 1);
  if (tree.levels() == 0 || !all_pairs || !cluster.links.empty() || rings > 1 || size > kSearchedMax) return;
  // The same nodes without their groups: then all pairs are siblings. Numbered as in natural order, which is that of no file.
  Cluster flat;
  flat.nodes.resize(At(size));
  for (int place = 0; place < size; ++place) flat.nodes[At(place)].name = absl::StrCat(place);
  for (Cluster::Measurement one : cluster.measurements) {
    one.from = tree.NaturalPlace(one.from);
    one.to = tree.NaturalPlace(one.to);
    flat.measurements.push_back(one);
  }
  const std::optional<EdgeCosts> costs = SiblingCosts(flat, GroupTree(flat)).Between(0, false);
  if (!costs) return;
  std::vector<int> crossings, cycle;
  for (const int from : tree.natural_order()) {
    for (const int to : tree.natural_order()) crossings.push_back(from == to ? 0 : tree.levels() - tree.SplitLevel(from, to));
  }
  for (const int node : *order) cycle.push_back(tree.NaturalPlace(node));
  cycle = ImproveCycle(*costs, crossings, std::move(cycle));
  std::rotate(cycle.begin(), std::find(cycle.begin(), cycle.end(), 0), cycle.end());
  if (cycle.size() > 2 && cycle[1] > cycle.back() && costs->IsSymmetric()) std::reverse(cycle.begin() + 1, cycle.end());
  for (int i = 0; i < size; ++i) (*order)[At(i)] = tree.natural_order()[At(cycle[At(i)])];
}

}  // namespace

RingOrder PlanOrder(const Cluster& cluster, const GroupTree& tree, int rings) {
  RingOrder order = Nesting(cluster, tree, rings).Take();
  ImproveAcrossGroups(cluster, tree, rings, &order.nodes);
  return order;
}

namespace {

// What is measured between one node and the others, both ways.
class WaysOf {
 public:
  WaysOf(const Cluster& cluster, int node) {
    std::vector<double> slowness, latency;
    for (const Cluster::Measurement& one : cluster.measurements) {
      if ((one.from == node) == (one.to == node)) continue;
      const bool comes = one.to == node;
      Way& way = ways_[{comes, comes ? one.from : one.to}];
      if (one.bytes_per_second > 0) slowness.push_back(way.slowness = 1 / one.bytes_per_second);
      if (one.latency_ns > 0) latency.push_back(way.latency = static_cast<double>(one.latency_ns));
    }
    usual_ = {Middle(std::move(slowness)), Middle(std::move(latency))};
  }

  // Of a -> node -> b: the slowness of the slower step, and the latency of both.
  std::pair<double, double> Through(int a, int b) const {
    const Way in = Find(true, a), out = Find(false, b);
    return {std::max(in.slowness, out.slowness), in.latency + out.latency};
  }

 private:
  struct Way {
    double slowness = 0, latency = 0;  // 0: not known
  };

  static double Middle(std::vector<double> values) {
    if (values.empty()) return 0;
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
  }

  Way Find(bool comes, int other) const {
    const auto found = ways_.find({comes, other});
    if (found == ways_.end()) return usual_;
    const Way& way = found->second;
    return {way.slowness > 0 ? way.slowness : usual_.slowness, way.latency > 0 ? way.latency : usual_.latency};
  }

  std::map<std::pair<bool, int>, Way> ways_;
  Way usual_;
};

}  // namespace

std::vector<int> Extend(const Cluster& cluster, const GroupTree& tree, std::vector<int> ring, int node) {
  if (ring.empty()) return {node};
  const int size = static_cast<int>(ring.size()), place = tree.NaturalPlace(node), places = tree.nodes();
  const WaysOf ways(cluster, node);
  // Of the edge a -> b: how many crossings a -> node -> b has more, level by level; what its steps cost; how far a stands behind `node`.
  using Added = std::tuple<std::vector<int>, std::pair<double, double>, int>;
  Added best;
  int behind = -1;
  for (int i = 0; i < size; ++i) {
    const int a = ring[At(i)], b = ring[At((i + 1) % size)];
    const int in = tree.SplitLevel(a, node), out = tree.SplitLevel(node, b), before = tree.SplitLevel(a, b);
    std::vector<int> crossings;
    for (int level = 0; level < tree.levels(); ++level) crossings.push_back((in <= level) + (out <= level) - (before <= level));
    Added added(std::move(crossings), ways.Through(a, b), (place - tree.NaturalPlace(a) + places) % places);
    if (behind >= 0 && added >= best) continue;
    best = std::move(added);
    behind = i;
  }
  ring.insert(ring.begin() + behind + 1, node);
  return ring;
}

std::vector<int> Shrink(std::vector<int> ring, int node) {
  ring.erase(std::remove(ring.begin(), ring.end(), node), ring.end());
  return ring;
}

std::vector<Crossings> CountCrossings(const GroupTree& tree, const std::vector<int>& ring) {
  std::vector<Crossings> counts(At(tree.levels()));
  for (int level = 0; level < tree.levels(); ++level) {
    Crossings& count = counts[At(level)];
    std::vector<int> leaving(tree.groups().size(), -1);  // by group; -1: the ring has no node in it
    for (size_t i = 0; i < ring.size(); ++i) {
      const int from = tree.GroupOf(ring[i], level), to = tree.GroupOf(ring[(i + 1) % ring.size()], level);
      if (leaving[At(from)] < 0) {
        leaving[At(from)] = 0;
        ++count.groups;
      }
      if (from == to) continue;
      ++count.crossings;
      count.worst = std::max(count.worst, ++leaving[At(from)]);
    }
  }
  return counts;
}

}  // namespace muster
