#include "launcher/fabric/network.h"

#include <algorithm>
#include <limits>
#include <queue>

#include "absl/strings/str_cat.h"

namespace muster {
namespace {

size_t At(int index) { return static_cast<size_t>(index); }

double Capacity(double bytes_per_second) {
  return bytes_per_second > 0 ? bytes_per_second : std::numeric_limits<double>::infinity();
}

}  // namespace

Network::Network(const Cluster& cluster, const GroupTree& tree) : cluster_(cluster), tree_(tree) {
  // Links are numbered in an order that does not depend on that of the cluster's nodes and links: of equally slow ones the first is
  // named.
  first_nic_.resize(At(tree.nodes()));
  for (const int node : tree.natural_order()) {
    const std::vector<Cluster::Nic>& nics = cluster.nodes[At(node)].nics;
    first_nic_[At(node)] = static_cast<int>(links_.size());
    for (int nic = 0; nic < std::max(static_cast<int>(nics.size()), 1); ++nic) {
      const double capacity = Capacity(nics.empty() ? 0 : nics[At(nic)].bytes_per_second);
      Add({Kind::kNicOut, node, nic}, capacity);
      Add({Kind::kNicIn, node, nic}, capacity);
    }
  }

  for (int level = 0; level < tree.levels(); ++level) {
    int rails = 1;
    for (int node = 0; cluster.levels[At(level)].per_rail && node < tree.nodes(); ++node) {
      for (int nic = 0; nic < static_cast<int>(cluster.nodes[At(node)].nics.size()); ++nic) {
        rails = std::max(rails, RailOf(node, nic) + 1);
      }
    }
    rails_.push_back(rails);
  }
  std::vector<double> uplink(tree.groups().size(), 0);
  for (size_t group = 1; group < uplink.size(); ++group) {
    uplink[group] = cluster.levels[At(tree.groups()[group].level)].uplink_bytes_per_second;
  }
  for (const Cluster::Uplink& own : cluster.uplinks) uplink[At(tree.Find(own.group))] = own.bytes_per_second;
  first_uplink_.push_back(-1);
  for (int group = 1; group < static_cast<int>(tree.groups().size()); ++group) {
    first_uplink_.push_back(static_cast<int>(links_.size()));
    for (int rail = 0; rail < rails_[At(tree.groups()[At(group)].level)]; ++rail) {
      Add({Kind::kUp, group, rail}, Capacity(uplink[At(group)]));
      Add({Kind::kDown, group, rail}, Capacity(uplink[At(group)]));
    }
  }

  hops_.resize(tree.groups().size());
  for (const Cluster::Link& link : cluster.links) {
    const int from = tree.Find(link.from), to = tree.Find(link.to);
    hops_[At(from)].push_back({.to = to, .bytes_per_second = link.bytes_per_second, .latency_ns = link.latency_ns});
    hops_[At(to)].push_back({.to = from, .bytes_per_second = link.bytes_per_second, .latency_ns = link.latency_ns});
  }
  for (std::vector<Hop>& hops : hops_) {
    std::sort(hops.begin(), hops.end(), [](const Hop& a, const Hop& b) { return a.to < b.to; });
  }
  for (int from = 0; from < static_cast<int>(hops_.size()); ++from) {
    for (Hop& hop : hops_[At(from)]) hop.link = Add({Kind::kDirect, from, hop.to}, hop.bytes_per_second);
  }
}

int Network::Add(Link link, double capacity) {
  links_.push_back(link);
  capacities_.push_back(capacity);
  return static_cast<int>(links_.size()) - 1;
}

int Network::RailOf(int node, int nic) const {
  if (nic < 0) return 0;
  const int rail = cluster_.nodes[At(node)].nics[At(nic)].rail;
  return rail >= 0 ? rail : nic;
}

Network::Route Network::Between(int from_node, int from_nic, int to_node, int to_nic) const {
  Route route;
  const int from_rail = RailOf(from_node, from_nic), to_rail = RailOf(to_node, to_nic);
  route.links.push_back(first_nic_[At(from_node)] + 2 * std::max(from_nic, 0));
  // The level whose groups have to be left: where they are different ones, or the same but with a switch for each rail.
  int split = tree_.SplitLevel(from_node, to_node);
  for (int level = 0; level < split && from_rail != to_rail; ++level) {
    if (cluster_.levels[At(level)].per_rail) split = level;
  }
  std::vector<int> down;
  for (int level = tree_.levels() - 1; level >= split; --level) {
    const int from = tree_.GroupOf(from_node, level), to = tree_.GroupOf(to_node, level);
    if (level == split && AppendDirect(from, to, &route)) continue;
    const bool per_rail = rails_[At(level)] > 1;
    route.links.push_back(first_uplink_[At(from)] + 2 * (per_rail ? from_rail : 0));
    down.push_back(first_uplink_[At(to)] + 2 * (per_rail ? to_rail : 0) + 1);
    route.latency_ns += 2 * cluster_.levels[At(level)].latency_ns;
  }
  route.links.insert(route.links.end(), down.rbegin(), down.rend());
  route.links.push_back(first_nic_[At(to_node)] + 2 * std::max(to_nic, 0) + 1);
  return route;
}

bool Network::AppendDirect(int from_group, int to_group, Route* route) const {
  if (from_group == to_group || hops_[At(from_group)].empty()) return false;
  // Breadth first from the end, so that each step is the lowest neighbour which is nearer to it.
  std::vector<int> open = {to_group};
  std::vector<std::pair<int, int>> distance = {{to_group, 0}};
  const auto distance_of = [&distance](int group) {
    const auto found = std::lower_bound(distance.begin(), distance.end(), std::pair(group, 0));
    return found != distance.end() && found->first == group ? found->second : -1;
  };
  for (size_t i = 0; i < open.size() && distance_of(from_group) < 0; ++i) {
    const int steps = distance_of(open[i]) + 1;
    for (const Hop& hop : hops_[At(open[i])]) {
      if (distance_of(hop.to) >= 0) continue;
      distance.insert(std::lower_bound(distance.begin(), distance.end(), std::pair(hop.to, 0)), {hop.to, steps});
      open.push_back(hop.to);
    }
  }
  if (distance_of(from_group) < 0) return false;
  for (int at = from_group; at != to_group;) {
    const int steps = distance_of(at);
    for (const Hop& hop : hops_[At(at)]) {
      if (distance_of(hop.to) != steps - 1) continue;
      route->links.push_back(hop.link);
      route->latency_ns += hop.latency_ns;
      at = hop.to;
      break;
    }
  }
  return true;
}

std::string Network::LinkText(int link) const {
  const Link& one = links_[At(link)];
  switch (one.kind) {
    case Kind::kNicOut:
    case Kind::kNicIn: {
      const Cluster::Node& node = cluster_.nodes[At(one.place)];
      const std::string name =
          node.nics.empty() || node.nics[At(one.part)].name.empty() ? absl::StrCat(one.part) : node.nics[At(one.part)].name;
      return absl::StrCat("NIC ", name, " of node ", node.name);
    }
    case Kind::kUp:
    case Kind::kDown: {
      const int level = tree_.groups()[At(one.place)].level;
      return absl::StrCat("uplink of ", GroupText(cluster_, tree_.Labels(one.place)),
                          rails_[At(level)] > 1 ? absl::StrCat(", rail ", one.part) : "");
    }
    case Kind::kDirect: {
      const auto [first, second] = std::minmax(one.place, one.part);
      return absl::StrCat("link between ", GroupText(cluster_, tree_.Labels(first)), " and ",
                          GroupText(cluster_, tree_.Labels(second)));
    }
  }
  return "";
}

}  // namespace muster
