#include "launcher/planner/explain.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "launcher/planner/ring_order.h"

namespace muster {
namespace {

size_t At(int index) { return static_cast<size_t>(index); }

class Explanation {
 public:
  Explanation(const Cluster& cluster, const GroupTree& tree, const Plan& plan, int rank)
      : cluster_(cluster),
        tree_(tree),
        plan_(plan),
        rank_(rank),
        place_(plan.ranks[At(rank)]),
        node_(cluster.nodes[At(place_.node)]) {
    const std::vector<int>& order = plan.order.nodes;
    ring_place_ = static_cast<int>(std::find(order.begin(), order.end(), place_.node) - order.begin());
  }

  std::vector<std::string> Take() {
    SayWhere();
    SayNic();
    if (cluster_.nodes.size() > 1) {
      SayNeighbours();
      SayGroups();
      SayOrderInside();
      SayWithoutPlan();
    }
    return std::move(sentences_);
  }

 private:
  template <typename... Parts>
  void Say(const Parts&... parts) {
    sentences_.push_back(absl::StrCat(parts..., "."));
  }

  const std::string& Name(int node) const { return cluster_.nodes[At(node)].name; }
  int Neighbour(int step) const {
    const int size = static_cast<int>(plan_.order.nodes.size());
    return plan_.order.nodes[At((ring_place_ + step + size) % size)];
  }
  // "leaf l7 of rack r1": a group, its own level first.
  std::string Text(int group) const {
    std::string text;
    for (int at = group; at > 0; at = tree_.groups()[At(at)].parent) {
      const GroupTree::Group& one = tree_.groups()[At(at)];
      const std::string& level = cluster_.levels[At(one.level)].name;
      if (one.label.empty() && at != group) continue;
      absl::StrAppend(&text, text.empty() ? "" : " of ",
                      one.label.empty() ? absl::StrCat("the nodes without a ", level) : absl::StrCat(level, " ", one.label));
    }
    return text;
  }

  void SayWhere() {
    const int ranks = static_cast<int>(std::count_if(plan_.ranks.begin(), plan_.ranks.end(),
                                                     [this](const RankPlace& one) { return one.node == place_.node; }));
    const int first = plan_.first_rank[At(place_.node)];
    const std::string group = tree_.levels() > 0 ? Text(tree_.GroupOf(place_.node, tree_.levels() - 1)) : "";
    Say("rank ", rank_, " is local rank ", place_.local_rank, " on node ", node_.name,
        group.empty() ? "" : absl::StrCat(", in ", group), "; the node is number ", ring_place_, " of the ring's ",
        plan_.order.nodes.size(), ", counted from 0, and has ",
        ranks == 1 ? absl::StrCat("rank ", first) : absl::StrCat("ranks ", first, " to ", first + ranks - 1));
  }

  void SayNic() {
    if (place_.nic < 0) return;
    const Cluster::Nic& nic = node_.nics[At(place_.nic)];
    const std::string name =
        nic.name.empty() ? absl::StrCat("NIC ", place_.nic) : absl::StrCat("NIC ", place_.nic, " (", nic.name, ")");
    if (place_.gpu < 0) return Say("it uses ", name);
    if (node_.nics.size() == 1) return Say("its GPU ", place_.gpu, " uses ", name, ", the node's only one");
    std::string why = "how near its NICs are is not known, so they are dealt out in order";
    if (!node_.distances.empty() &&
        node_.distances[At(place_.gpu) * node_.nics.size() + At(place_.nic)] != PciDistance::kUnknown) {
      const PciDistance distance = node_.distances[At(place_.gpu) * node_.nics.size() + At(place_.nic)];
      const auto row = node_.distances.begin() + static_cast<std::ptrdiff_t>(At(place_.gpu) * node_.nics.size());
      const PciDistance nearest = *std::min_element(row, row + static_cast<std::ptrdiff_t>(node_.nics.size()));
      why = absl::StrCat("they are ", PciDistanceName(distance), " from each other, ",
                         distance == nearest
                             ? "and no other NIC is nearer"
                             : absl::StrCat("and the nearer NICs (", PciDistanceName(nearest), ") serve other GPUs"));
    } else if (node_.gpus[At(place_.gpu)].numa >= 0 && nic.numa >= 0) {
      why = node_.gpus[At(place_.gpu)].numa == nic.numa ? absl::StrCat("both are in NUMA node ", nic.numa)
                                                        : "the NICs of its own NUMA node serve other GPUs";
    }
    Say("its GPU ", place_.gpu, " uses ", name, ": ", why);
  }

  // What lies between the node and its neighbour.
  std::string Between(int other) const {
    const int level = tree_.SplitLevel(place_.node, other);
    if (tree_.levels() == 0) return "";
    if (level == tree_.levels()) return ", in the same " + cluster_.levels.back().name;
    return absl::StrCat(", in ", Text(tree_.GroupOf(other, level)));
  }

  void SayNeighbours() {
    const int before = Neighbour(-1), after = Neighbour(1);
    Say("it receives from ", Name(before), Between(before), ", and sends to ", Name(after), Between(after));
  }

  void SayGroups() {
    const std::vector<Crossings> by_name = CountCrossings(tree_, HostNameOrder(cluster_));
    for (int level = tree_.levels() - 1; level >= 0; --level) {
      const std::string& name = cluster_.levels[At(level)].name;
      const int number = tree_.GroupOf(place_.node, level);
      const int groups = tree_.GroupsOn(level), size = tree_.groups()[At(number)].size;
      if (groups == 1) {
        Say("all nodes are in one ", name, ", which no edge leaves");
        continue;
      }
      if (groups == tree_.nodes()) {
        Say("every node is a ", name, " of its own, so each edge leaves one in any order");
        continue;
      }
      const int node = place_.node;
      const bool last = tree_.GroupOf(Neighbour(1), level) != tree_.GroupOf(node, level);
      Say(size == 1 ? absl::StrCat("it is the only node of ", Text(number))
                    : absl::StrCat("the ", size, " nodes of ", Text(number), " stand together"),
          ", so one edge of the ring leaves the ", name, last ? " (this node's)" : "", " and one comes in: with ", groups,
          " such groups the ring crosses ", groups, " times, the fewest there can be; in order of host names it would cross ",
          by_name[At(level)].crossings);
    }
  }

  void SayOrderInside() {
    const int group = tree_.levels() > 0 ? tree_.GroupOf(place_.node, tree_.levels() - 1) : 0;
    const std::string nodes = tree_.levels() > 0 ? absl::StrCat("the nodes of ", Text(group)) : "the nodes";
    if (tree_.groups()[At(group)].size > 1) {
      Say(nodes, plan_.order.ordered_by[At(group)] == OrderedBy::kMeasured
                     ? " stand so that the slowest measured step between neighbours is as fast as can be, and then with the "
                       "least latency"
                     : ": nothing but their names tells them apart, and they stand in order of these");
    }
    for (int at = tree_.groups()[At(group)].parent; at >= 0; at = tree_.groups()[At(at)].parent) {
      const OrderedBy by = plan_.order.ordered_by[At(at)];
      const std::string level = cluster_.levels[At(tree_.groups()[At(at)].level + 1)].name,
                        place = at > 0 ? absl::StrCat(" in ", Text(at)) : "";
      if (by == OrderedBy::kLinks)
        Say("the ", level, " groups", place,
            " stand so that neighbours have a direct link wherever possible, the slowest being as fast as can be");
      if (by == OrderedBy::kMeasured)
        Say("the ", level, " groups", place,
            " stand so that the slowest measured step between neighbours is as fast as can be");
    }
  }

  void SayWithoutPlan() {
    const std::vector<int> names = HostNameOrder(cluster_);
    const size_t at = static_cast<size_t>(std::find(names.begin(), names.end(), place_.node) - names.begin());
    const int before = names[(at + names.size() - 1) % names.size()], after = names[(at + 1) % names.size()];
    if (before == Neighbour(-1) && after == Neighbour(1)) return Say("sorted by host name it would have the same neighbours");
    Say("sorted by host name it would stand between ", Name(before), Between(before), ", and ", Name(after), Between(after));
  }

  const Cluster& cluster_;
  const GroupTree& tree_;
  const Plan& plan_;
  const int rank_;
  const RankPlace& place_;
  const Cluster::Node& node_;
  int ring_place_ = 0;
  std::vector<std::string> sentences_;
};

}  // namespace

std::vector<std::string> ExplainRank(const Cluster& cluster, const GroupTree& tree, const Plan& plan, int rank) {
  return Explanation(cluster, tree, plan, rank).Take();
}

}  // namespace muster
