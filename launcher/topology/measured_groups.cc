#include "launcher/topology/measured_groups.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "launcher/topology/speed_text.h"

namespace muster {
namespace {

// How far apart two nodes are, in whatever unit: smaller is closer.
struct Edge {
  int a = 0, b = 0;
  double distance = 0;
};

// The better of both directions and of repetitions: delays only add.
std::vector<Edge> Edges(const std::vector<Cluster::Measurement>& measurements, bool by_latency) {
  std::map<std::pair<int, int>, double> best;
  for (const Cluster::Measurement& measured : measurements) {
    const double distance = by_latency                      ? static_cast<double>(measured.latency_ns)
                            : measured.bytes_per_second > 0 ? 1 / measured.bytes_per_second
                                                            : 0;
    if (distance <= 0 || measured.from == measured.to) continue;
    const auto [known, is_new] = best.emplace(std::minmax(measured.from, measured.to), distance);
    if (!is_new) known->second = std::min(known->second, distance);
  }
  std::vector<Edge> edges;
  for (const auto& [pair, distance] : best) edges.push_back({pair.first, pair.second, distance});
  std::sort(edges.begin(), edges.end(),
            [](const Edge& x, const Edge& y) { return std::tuple(x.distance, x.a, x.b) < std::tuple(y.distance, y.a, y.b); });
  return edges;
}

// Where bands end: the number of edges in the lowest, in the lowest two, ...; without the highest.
std::vector<size_t> BandEnds(const std::vector<Edge>& edges, int nodes, double gap) {
  const size_t stray = std::max<size_t>(2, static_cast<size_t>(nodes) / 8);
  std::vector<size_t> ends;
  size_t begin = 0;
  for (size_t i = 1; i < edges.size(); ++i) {
    if (edges[i].distance < gap * edges[i - 1].distance || i - begin < stray || edges.size() - i < stray) continue;
    ends.push_back(i);
    begin = i;
  }
  return ends;
}

class Sets {
 public:
  explicit Sets(int nodes) : parent_(static_cast<size_t>(nodes)) { std::iota(parent_.begin(), parent_.end(), 0); }
  int Find(int node) {
    while (parent_[static_cast<size_t>(node)] != node) {
      parent_[static_cast<size_t>(node)] = parent_[static_cast<size_t>(parent_[static_cast<size_t>(node)])];
      node = parent_[static_cast<size_t>(node)];
    }
    return node;
  }
  void Join(int a, int b) {
    a = Find(a);
    b = Find(b);
    parent_[static_cast<size_t>(std::max(a, b))] = std::min(a, b);
  }

 private:
  std::vector<int> parent_;
};

std::string DistanceText(double distance, bool by_latency) {
  return by_latency ? absl::StrFormat("%.3g us", distance / 1000) : BitsText(1 / distance);
}

}  // namespace

MeasuredGroups InferGroups(int nodes, const std::vector<Cluster::Measurement>& measurements, double gap) {
  MeasuredGroups groups;
  groups.labels.resize(static_cast<size_t>(nodes));
  bool by_latency = true;
  std::vector<Edge> edges = Edges(measurements, by_latency);
  std::vector<size_t> ends = BandEnds(edges, nodes, gap);
  if (ends.empty()) {
    by_latency = false;
    edges = Edges(measurements, by_latency);
    ends = BandEnds(edges, nodes, gap);
  }
  if (ends.empty()) {
    groups.notes.emplace_back("all measured pairs are about equally far apart: no groups are made of them");
    return groups;
  }
  std::vector<std::vector<int>> found;  // group of each node, widest level first
  for (size_t band = ends.size(); band-- > 0;) {
    Sets sets(nodes);
    for (size_t i = 0; i < ends[band]; ++i) sets.Join(edges[i].a, edges[i].b);
    size_t outside = 0, of_higher_bands = edges.size() - ends[band], inside = ends[band];
    for (size_t i = ends[band]; i < edges.size(); ++i) outside += sets.Find(edges[i].a) == sets.Find(edges[i].b) ? 1 : 0;
    const std::string bands =
        absl::StrCat("near pairs at ", DistanceText(edges[ends[band] - 1].distance, by_latency), " or better and far ones at ",
                     DistanceText(edges[ends[band]].distance, by_latency), " or worse");
    if (outside * 5 > inside + outside || outside == of_higher_bands) {
      groups.notes.push_back(absl::StrCat("there are ", bands, ", but ", outside,
                                          " of the far ones lie inside groups of near ones: no groups are made of it"));
      continue;
    }
    std::vector<int> group_of(static_cast<size_t>(nodes));
    for (int node = 0; node < nodes; ++node) group_of[static_cast<size_t>(node)] = sets.Find(node);
    const std::set<int> distinct(group_of.begin(), group_of.end());
    if (distinct.size() < 2 || static_cast<int>(distinct.size()) == nodes) continue;
    groups.notes.push_back(absl::StrCat(distinct.size(), " groups: there are ", bands));
    found.push_back(std::move(group_of));
  }
  if (found.size() > 3) found.erase(found.begin(), found.end() - 3);
  for (size_t level = 0; level < found.size(); ++level) {
    groups.levels.push_back(absl::StrCat("measured-", level + 1));
    std::map<int, int> number;
    for (size_t node = 0; node < found[level].size(); ++node) {
      const int own = number.emplace(found[level][node], static_cast<int>(number.size())).first->second;
      groups.labels[node].push_back(absl::StrCat("g", own));
    }
  }
  return groups;
}

std::vector<int> Representatives(const MeasuredGroups& groups) {
  std::set<std::vector<std::string>> seen;
  std::vector<int> chosen;
  for (size_t node = 0; node < groups.labels.size(); ++node) {
    if (seen.insert(groups.labels[node]).second) chosen.push_back(static_cast<int>(node));
  }
  return chosen;
}

}  // namespace muster
