#include "launcher/planner/nccl_check.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/base/nearest_name.h"

namespace muster {
namespace {

size_t At(int index) { return static_cast<size_t>(index); }

std::string Short(const std::string& name) { return name.substr(0, name.find('.')); }

// Names to places in Cluster::nodes; without the domain too, where that names one node alone.
class NodeNames {
 public:
  explicit NodeNames(const Cluster& cluster) : cluster_(cluster) {
    for (int i = 0; i < static_cast<int>(cluster.nodes.size()); ++i) {
      whole_[cluster.nodes[At(i)].name] = i;
      const auto [entry, is_new] = short_.emplace(Short(cluster.nodes[At(i)].name), i);
      if (!is_new) entry->second = -1;
    }
  }

  absl::StatusOr<int> Find(const std::string& host) const {
    if (const auto found = whole_.find(host); found != whole_.end()) return found->second;
    if (const auto found = short_.find(Short(host)); found != short_.end() && found->second >= 0) return found->second;
    std::vector<std::string> names;
    for (const Cluster::Node& node : cluster_.nodes) names.push_back(node.name);
    const std::string nearest = NearestName(host, names);
    return absl::NotFoundError(absl::StrCat("NCCL ran on ", host, ", which the cluster does not have",
                                            nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?"),
                                            "; the file of the cluster names nodes as their hosts call themselves"));
  }

 private:
  const Cluster& cluster_;
  std::map<std::string, int> whole_, short_;
};

// The node before comes again at the end of the ring.
std::vector<int> NodesOf(const std::vector<int>& ring, const std::vector<int>& node_of) {
  std::vector<int> nodes;
  for (const int rank : ring) {
    if (nodes.empty() || nodes.back() != node_of[At(rank)]) nodes.push_back(node_of[At(rank)]);
  }
  while (nodes.size() > 1 && nodes.front() == nodes.back()) nodes.pop_back();
  return nodes;
}

std::set<std::pair<int, int>> Neighbours(const std::vector<int>& ring) {
  std::set<std::pair<int, int>> pairs;
  for (size_t i = 0; i < ring.size(); ++i) {
    const int a = ring[i], b = ring[(i + 1) % ring.size()];
    pairs.insert(std::minmax(a, b));
  }
  return pairs;
}

std::string Where(const Cluster& cluster, int node) {
  const std::string group = GroupText(cluster, cluster.nodes[At(node)].labels);
  return absl::StrCat(cluster.nodes[At(node)].name, group.empty() ? "" : absl::StrCat(" (", group, ")"));
}

class Check {
 public:
  Check(const Cluster& cluster, const GroupTree& tree, const Plan& plan, std::vector<int> node_of)
      : cluster_(cluster), tree_(tree), order_(plan.order.nodes), node_of_(std::move(node_of)), pairs_(Neighbours(order_)) {
    for (const Crossings& level : CountCrossings(tree, order_)) planned_.push_back(level.crossings);
  }

  const std::vector<int>& planned() const { return planned_; }

  NcclRingCheck Judge(int channel, const std::vector<int>& ring) const {
    NcclRingCheck check;
    if (ring.empty()) return check;
    check.nodes = NodesOf(ring, node_of_);
    for (const Crossings& level : CountCrossings(tree_, check.nodes)) check.crossings.push_back(level.crossings);
    const bool again = std::set<int>(check.nodes.begin(), check.nodes.end()).size() < check.nodes.size();
    if (!again && check.nodes.size() == order_.size() && Neighbours(check.nodes) == pairs_) {
      check.follows = Follows::kPlan;
      return check;
    }
    bool more = again;
    for (size_t level = 0; level < planned_.size(); ++level) more = more || check.crossings[level] > planned_[level];
    check.follows = more ? Follows::kNot : Follows::kOtherOrder;
    check.difference = Difference(channel, ring, check, again);
    return check;
  }

 private:
  // The step over the outermost level that the plan does not have; of these the first.
  std::string Difference(int channel, const std::vector<int>& ring, const NcclRingCheck& check, bool again) const {
    int best = -1, best_level = tree_.levels() + 1;
    for (size_t i = 0; i < ring.size(); ++i) {
      const int from = node_of_[At(ring[i])], to = node_of_[At(ring[(i + 1) % ring.size()])];
      if (from == to || pairs_.count(std::minmax(from, to)) > 0) continue;
      const int level = tree_.SplitLevel(from, to);
      if (level < best_level) {
        best_level = level;
        best = static_cast<int>(i);
      }
    }
    std::string text = absl::StrCat("channel ", channel);
    if (best >= 0) {
      const int rank = ring[At(best)], next = ring[At(best + 1) % ring.size()];
      const int from = node_of_[At(rank)];
      const auto place = std::find(order_.begin(), order_.end(), from);
      const int before = place == order_.begin() ? order_.back() : place[-1];
      const int after = place + 1 == order_.end() ? order_.front() : place[1];
      absl::StrAppend(&text, " goes from rank ", rank, " on ", Where(cluster_, from), " to rank ", next, " on ",
                      Where(cluster_, node_of_[At(next)]), ", where the plan has ", Where(cluster_, before),
                      before == after ? "" : absl::StrCat(" and ", Where(cluster_, after)), " beside the first");
    } else {
      absl::StrAppend(&text, " takes steps of the plan, but not all");
    }
    if (again) {
      std::map<int, int> visits;
      for (const int node : check.nodes) ++visits[node];
      const auto most =
          std::max_element(visits.begin(), visits.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
      absl::StrAppend(&text, "; it comes to ", cluster_.nodes[At(most->first)].name, " ", most->second, " times");
    }
    for (size_t level = 0; level < planned_.size(); ++level) {
      if (check.crossings[level] > planned_[level]) {
        absl::StrAppend(&text, "; it crosses ", cluster_.levels[level].name, " ", check.crossings[level], " times, the plan ",
                        planned_[level]);
      }
    }
    return text;
  }

  const Cluster& cluster_;
  const GroupTree& tree_;
  const std::vector<int>& order_;
  const std::vector<int> node_of_;
  const std::set<std::pair<int, int>> pairs_;
  std::vector<int> planned_;
};

}  // namespace

Follows NcclCheck::worst() const {
  Follows worst = Follows::kPlan;
  for (const NcclRingCheck& ring : rings) {
    if (ring.follows != Follows::kUnknown) worst = std::max(worst, ring.follows);
  }
  return worst;
}

absl::StatusOr<NcclCheck> CheckNcclRings(const Cluster& cluster, const GroupTree& tree, const Plan& plan,
                                         const NcclRings& nccl) {
  NcclCheck check;
  const NodeNames names(cluster);
  std::vector<int> node_of;
  int silent = 0;
  for (int rank = 0; rank < nccl.ranks; ++rank) {
    const std::string& host = nccl.hosts[At(rank)];
    if (!host.empty()) {
      auto node = names.Find(host);
      if (!node.ok()) return node.status();
      node_of.push_back(*node);
      continue;
    }
    if (static_cast<int>(plan.ranks.size()) != nccl.ranks) {
      return absl::InvalidArgumentError(absl::StrCat("rank ", rank, " has not said its host, and the plan has ",
                                                     plan.ranks.size(), " ranks where NCCL has ", nccl.ranks,
                                                     "; give the output of all ranks, or say how many ranks a node has"));
    }
    node_of.push_back(plan.ranks[At(rank)].node);
    ++silent;
  }
  if (silent > 0)
    check.doubts.push_back(
        absl::StrCat(silent, " of ", nccl.ranks, " ranks have not said their host: taken to be where the plan puts them"));
  const Check judge(cluster, tree, plan, std::move(node_of));
  check.planned = judge.planned();
  std::vector<int> unknown;
  for (int channel = 0; channel < static_cast<int>(nccl.rings.size()); ++channel) {
    check.rings.push_back(judge.Judge(channel, nccl.rings[At(channel)]));
    if (nccl.rings[At(channel)].empty()) unknown.push_back(channel);
  }
  if (!unknown.empty()) {
    check.doubts.push_back(absl::StrCat(unknown.size(), " of ", nccl.rings.size(),
                                        " channels are not told in full, the first of them channel ", unknown.front(),
                                        ": not looked at"));
  }
  return check;
}

absl::StatusOr<std::vector<std::string>> NodesOfNcclHosts(const Cluster& cluster, const NcclRings& nccl) {
  const NodeNames names(cluster);
  std::vector<std::string> nodes;
  std::set<int> met;
  for (const std::string& host : nccl.hosts) {
    if (host.empty()) continue;
    auto node = names.Find(host);
    if (!node.ok()) return node.status();
    if (met.insert(*node).second) nodes.push_back(cluster.nodes[At(*node)].name);
  }
  return nodes;
}

std::string NcclCheckText(const Cluster& cluster, const NcclCheck& check) {
  std::string text;
  size_t known = 0, same = 0;
  std::vector<int> most(check.planned.size(), 0);
  for (const NcclRingCheck& ring : check.rings) {
    if (ring.follows == Follows::kUnknown) continue;
    ++known;
    if (ring.follows == Follows::kPlan) ++same;
    for (size_t level = 0; level < most.size(); ++level) most[level] = std::max(most[level], ring.crossings[level]);
  }
  if (!check.planned.empty()) {
    absl::StrAppendFormat(&text, "  %-28s%12s%12s\n", "crossings", "planned", "NCCL, most");
    for (size_t level = 0; level < check.planned.size(); ++level) {
      absl::StrAppendFormat(&text, "  %-28s%12d%12d\n", cluster.levels[level].name, check.planned[level], most[level]);
    }
    text += "\n";
  }
  constexpr size_t kDifferencesMax = 8;
  size_t different = 0;
  for (const NcclRingCheck& ring : check.rings) {
    if (ring.difference.empty()) continue;
    if (different++ < kDifferencesMax) absl::StrAppend(&text, ring.difference, "\n");
  }
  if (different > kDifferencesMax) absl::StrAppend(&text, "... and ", different - kDifferencesMax, " more channels\n");
  switch (check.worst()) {
    case Follows::kPlan:
      absl::StrAppend(&text, known == 1 ? "NCCL's ring goes" : absl::StrCat("NCCL's ", known, " rings go"),
                      " round the nodes as planned\n");
      break;
    case Follows::kOtherOrder:
      absl::StrAppend(&text, same, " of ", known,
                      " rings of NCCL go round the nodes as planned, the others in another order that crosses no more\n");
      break;
    default:
      absl::StrAppend(
          &text,
          "NCCL does not follow the plan: give ranks their nodes in the planned order (muster run --topology-file, or "
          "--hostfile of muster topo plan --write-hostfile), local ranks together\n");
  }
  return text;
}

}  // namespace muster
