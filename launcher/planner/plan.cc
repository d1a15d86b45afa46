#include "launcher/planner/plan.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/planner/rings.h"

namespace muster {
namespace {

size_t At(int index) { return static_cast<size_t>(index); }

// What the nodes' devices leave open.
std::vector<std::string> DeviceDoubts(const Cluster& cluster, const GroupTree& tree, int rings) {
  std::vector<std::string> doubts;
  const auto most =
      std::max_element(cluster.nodes.begin(), cluster.nodes.end(),
                       [](const Cluster::Node& a, const Cluster::Node& b) { return a.nics.size() < b.nics.size(); });
  if (static_cast<int>(most->nics.size()) > rings) {
    const auto fewest = std::find_if(tree.natural_order().begin(), tree.natural_order().end(), [&](int node) {
      return std::max(static_cast<int>(cluster.nodes[At(node)].nics.size()), 1) == rings;
    });
    if (fewest != tree.natural_order().end() && RingCount(cluster) == rings) {
      const size_t nics = cluster.nodes[At(*fewest)].nics.size();
      doubts.push_back(absl::StrCat("node ", cluster.nodes[At(*fewest)].name, " has ", nics, nics == 1 ? " NIC" : " NICs",
                                    " and others up to ", most->nics.size(), "; ", rings,
                                    rings == 1 ? " ring is" : " rings are",
                                    " planned, and the others' NICs above that have no ring of their own"));
    }
  }
  return doubts;
}

std::vector<std::string> SizeDoubts(const Cluster& cluster, const GroupTree& tree) {
  std::vector<std::string> doubts;
  if (cluster.measurements.empty()) return doubts;
  for (int number = 0; number < static_cast<int>(tree.groups().size()); ++number) {
    const GroupTree::Group& group = tree.groups()[At(number)];
    if (std::max(group.children.size(), group.nodes.size()) <= kSearchedMax) continue;
    const std::string name = GroupText(cluster, tree.Labels(number));
    doubts.push_back(
        absl::StrCat(name.empty() ? "the cluster" : name, " has more than ", kSearchedMax,
                     " members; what was measured between them is not used, and they stand in order of their names"));
  }
  return doubts;
}

}  // namespace

Plan MakePlan(const Cluster& cluster, const GroupTree& tree, const PlanOptions& options) {
  Plan plan;
  const int rings = options.rings > 0 ? options.rings : RingCount(cluster);
  plan.order = PlanOrder(cluster, tree, rings);
  plan.rings = PlanRings(tree, plan.order.nodes, rings);
  plan.trees = PlanTrees(tree, plan.order.nodes);
  plan.ranks = MapRanks(cluster, plan.order.nodes, options.ranks_per_node);
  plan.first_rank.resize(cluster.nodes.size());
  for (size_t rank = 0; rank < plan.ranks.size(); ++rank) {
    if (plan.ranks[rank].local_rank == 0) plan.first_rank[At(plan.ranks[rank].node)] = static_cast<int>(rank);
  }
  plan.doubts = LabelDoubts(cluster, tree);
  for (auto doubts : {DeviceDoubts(cluster, tree, rings), SizeDoubts(cluster, tree)}) {
    std::move(doubts.begin(), doubts.end(), std::back_inserter(plan.doubts));
  }
  return plan;
}

std::vector<int> HostNameOrder(const Cluster& cluster) {
  std::vector<int> order(cluster.nodes.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&cluster](int a, int b) { return cluster.nodes[At(a)].name < cluster.nodes[At(b)].name; });
  return order;
}

std::vector<int> RandomOrder(const GroupTree& tree, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int> order = tree.natural_order();
  // The engine's numbers are the same everywhere; those of the library's distributions and std::shuffle are not.
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  return order;
}

}  // namespace muster
