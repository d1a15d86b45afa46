#include "launcher/planner/sibling_costs.h"

#include <algorithm>
#include <queue>
#include <utility>

namespace muster {
namespace {

size_t At(int index) { return static_cast<size_t>(index); }

// The middle one, the lower of two; 0 of none.
double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

int MembersOf(const GroupTree::Group& group) {
  return static_cast<int>(group.children.empty() ? group.nodes.size() : group.children.size());
}

}  // namespace

SiblingCosts::SiblingCosts(const Cluster& cluster, const GroupTree& tree) {
  std::vector<int> place(tree.groups().size(), 0);  // of a group among its siblings
  for (const GroupTree::Group& group : tree.groups()) {
    members_.push_back(MembersOf(group));
    for (size_t i = 0; i < group.children.size(); ++i) place[At(group.children[i])] = static_cast<int>(i);
  }
  std::vector<int> node_place(At(tree.nodes()), 0);
  for (const GroupTree::Group& group : tree.groups()) {
    for (size_t i = 0; i < group.nodes.size(); ++i) node_place[At(group.nodes[i])] = static_cast<int>(i);
  }

  for (const Cluster::Link& link : cluster.links) {
    const int from = tree.Find(link.from), to = tree.Find(link.to);
    if (from < 0 || to < 0) continue;
    std::map<Pair, Direct>& links = links_[tree.groups()[At(from)].parent];
    links[{place[At(from)], place[At(to)]}] =
        links[{place[At(to)], place[At(from)]}] = {link.bytes_per_second, static_cast<double>(link.latency_ns)};
  }
  for (const Cluster::Measurement& one : cluster.measurements) {
    if (one.bytes_per_second == 0 && one.latency_ns == 0) continue;
    const int level = tree.SplitLevel(one.from, one.to);
    const int group = tree.GroupOf(one.from, level - 1);
    const Pair pair = level == tree.levels()
                          ? Pair(node_place[At(one.from)], node_place[At(one.to)])
                          : Pair(place[At(tree.GroupOf(one.from, level))], place[At(tree.GroupOf(one.to, level))]);
    Samples& samples = samples_[group][pair];
    if (one.bytes_per_second > 0) samples.bytes_per_second.push_back(one.bytes_per_second);
    if (one.latency_ns > 0) samples.latency_ns.push_back(static_cast<double>(one.latency_ns));
  }
}

OrderedBy SiblingCosts::Source(int group) const {
  if (members_[At(group)] > kSearchedMax) return OrderedBy::kNames;
  if (links_.contains(group)) return OrderedBy::kLinks;
  return samples_.contains(group) ? OrderedBy::kMeasured : OrderedBy::kNames;
}

std::optional<EdgeCosts> SiblingCosts::Between(int group, bool both_ways) const {
  const OrderedBy source = Source(group);
  if (source == OrderedBy::kNames) return std::nullopt;
  const int size = members_[At(group)];
  EdgeCosts costs = source == OrderedBy::kLinks ? FromLinks(size, links_.at(group)) : FromSamples(size, samples_.at(group));
  for (int i = 0; both_ways && i < size; ++i) {
    for (int j = 0; j < i; ++j) {
      const double slowness = std::max(costs.slowness(i, j), costs.slowness(j, i));
      const double latency = std::max(costs.latency(i, j), costs.latency(j, i));
      costs.Set(i, j, slowness, latency);
      costs.Set(j, i, slowness, latency);
    }
  }
  return costs;
}

// A pair without a link goes through others, whose own edges it slows down: it is worse than every link, and the more so the longer
// the way.
EdgeCosts SiblingCosts::FromLinks(int size, const std::map<Pair, Direct>& links) const {
  std::vector<std::vector<int>> linked(At(size));
  double slowest = 0, latest = 0;
  for (const auto& [pair, link] : links) {
    linked[At(pair.first)].push_back(pair.second);
    slowest = std::max(slowest, 1 / link.bytes_per_second);
    latest = std::max(latest, link.latency_ns);
  }
  EdgeCosts costs(size);
  for (int from = 0; from < size; ++from) {
    std::vector<int> hops(At(size), size);
    hops[At(from)] = 0;
    std::queue<int> open({from});
    while (!open.empty()) {
      const int at = open.front();
      open.pop();
      for (const int next : linked[At(at)]) {
        if (hops[At(next)] < size) continue;
        hops[At(next)] = hops[At(at)] + 1;
        open.push(next);
      }
    }
    for (int to = 0; to < size; ++to) {
      if (to == from) continue;
      const auto link = links.find({from, to});
      if (link != links.end()) {
        costs.Set(from, to, 1 / link->second.bytes_per_second, link->second.latency_ns);
      } else {
        costs.Set(from, to, hops[At(to)] * slowest, hops[At(to)] * latest);
      }
    }
  }
  return costs;
}

EdgeCosts SiblingCosts::FromSamples(int size, const std::map<Pair, Samples>& samples) const {
  std::map<Pair, std::pair<double, double>> known;  // slowness, latency; 0: not known
  std::vector<double> all_slowness, all_latency;
  for (const auto& [pair, sample] : samples) {
    const double speed = Median(sample.bytes_per_second), latency = Median(sample.latency_ns);
    const double slowness = speed > 0 ? 1 / speed : 0;
    known[pair] = {slowness, latency};
    if (slowness > 0) all_slowness.push_back(slowness);
    if (latency > 0) all_latency.push_back(latency);
  }
  const bool speeds = !all_slowness.empty(), latencies = !all_latency.empty();
  const double usual_slowness = Median(all_slowness), usual_latency = Median(all_latency);
  EdgeCosts costs(size);
  for (int from = 0; from < size; ++from) {
    for (int to = 0; to < size; ++to) {
      if (to == from) continue;
      const auto pair = known.find({from, to});
      double slowness = pair != known.end() ? pair->second.first : 0, latency = pair != known.end() ? pair->second.second : 0;
      if (slowness == 0) slowness = usual_slowness;
      if (latency == 0) latency = usual_latency;
      costs.Set(from, to, speeds ? slowness : latency, latencies ? latency : slowness);
    }
  }
  return costs;
}

}  // namespace muster
