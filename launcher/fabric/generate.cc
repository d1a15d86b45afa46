#include "launcher/fabric/generate.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"

namespace muster {
namespace {

size_t At(int index) { return static_cast<size_t>(index); }

// 0 .. size - 1 in an order that is the same everywhere: the engine is standard, and no distribution is used.
std::vector<int> Shuffled(int size, std::mt19937_64* random) {
  std::vector<int> numbers(At(size));
  std::iota(numbers.begin(), numbers.end(), 0);
  for (size_t i = numbers.size(); i > 1; --i) std::swap(numbers[i - 1], numbers[(*random)() % i]);
  return numbers;
}

Cluster::Node MakeNode(const NodeKind& kind, bool rails) {
  Cluster::Node node;
  for (int g = 0; g < kind.gpus; ++g) node.gpus.push_back({.numa = 2 * g / kind.gpus});
  for (int n = 0; n < kind.nics; ++n) {
    node.nics.push_back({.name = absl::StrCat("nic", n),
                         .numa = 2 * n / kind.nics,
                         .rail = rails ? n : -1,
                         .bytes_per_second = kind.nic_bytes_per_second});
  }
  for (int g = 0; g < kind.gpus; ++g) {
    for (int n = 0; n < kind.nics; ++n) {
      node.distances.push_back(g * kind.nics / kind.gpus == n                   ? PciDistance::kPix
                               : node.gpus[At(g)].numa == node.nics[At(n)].numa ? PciDistance::kNode
                                                                                : PciDistance::kSys);
    }
  }
  return node;
}

void NameNodes(NodeNames names, uint64_t seed, Cluster* cluster) {
  std::mt19937_64 random(seed);
  const int size = static_cast<int>(cluster->nodes.size());
  std::vector<int> numbers(At(size));
  std::iota(numbers.begin(), numbers.end(), 0);
  if (names == NodeNames::kShuffled) numbers = Shuffled(size, &random);
  // As wide as the greatest, so that sorted as text they are sorted by number.
  const size_t width = absl::StrCat(size).size();
  for (int i = 0; i < size; ++i) {
    std::string number = absl::StrCat(numbers[At(i)] + 1);
    cluster->nodes[At(i)].name = absl::StrCat("node", std::string(width - number.size(), '0'), number);
  }
}

double SentBy(const NodeKind& kind, int nodes) { return kind.nic_bytes_per_second * kind.nics * nodes; }

}  // namespace

Cluster FatTree(const std::vector<int>& fan_out, double oversubscription, const NodeKind& kind, NodeNames names,
                uint64_t seed) {
  static constexpr const char* kNames[] = {"block", "rack", "leaf"};
  Cluster cluster;
  const int levels = static_cast<int>(fan_out.size()) - 1;
  int groups = 1;
  const int nodes = std::accumulate(fan_out.begin(), fan_out.end(), 1, [](int product, int fan) { return product * fan; });
  for (int level = 0; level < levels; ++level) {
    groups *= fan_out[At(level)];
    cluster.levels.push_back({.name = level == levels - 1 ? kNames[2] : kNames[level],
                              .uplink_bytes_per_second = SentBy(kind, nodes / groups) / oversubscription});
  }
  const Cluster::Node model = MakeNode(kind, false);
  for (int i = 0; i < nodes; ++i) {
    Cluster::Node& node = cluster.nodes.emplace_back(model);
    for (int level = levels - 1, place = i; level >= 0; --level) {
      place /= fan_out[At(level + 1)];
      node.labels.insert(node.labels.begin(), absl::StrCat(cluster.levels[At(level)].name, place + 1));
    }
  }
  NameNodes(names, seed, &cluster);
  return cluster;
}

Cluster Dragonfly(int groups, int routers, int nodes, const std::vector<int>& distances, double oversubscription,
                  const NodeKind& kind, NodeNames names, uint64_t seed) {
  Cluster cluster;
  cluster.levels = {{.name = "group"}, {.name = "router", .uplink_bytes_per_second = SentBy(kind, nodes)}};
  std::mt19937_64 random(seed ^ 0x5eed);
  const std::vector<int> label = Shuffled(groups, &random);
  const auto name = [&label](int group) { return absl::StrCat("group", label[At(group)] + 1); };
  const Cluster::Node model = MakeNode(kind, false);
  for (int g = 0; g < groups; ++g) {
    for (int r = 0; r < routers; ++r) {
      for (int n = 0; n < nodes; ++n) cluster.nodes.emplace_back(model).labels = {name(g), absl::StrCat("router", r + 1)};
    }
  }
  std::vector<std::pair<int, int>> pairs;
  for (int g = 0; g < groups; ++g) {
    for (const int distance : distances) pairs.push_back(std::minmax(g, (g + distance) % groups));
  }
  std::sort(pairs.begin(), pairs.end());
  pairs.erase(std::unique(pairs.begin(), pairs.end()), pairs.end());
  const double links_of_group = 2.0 * static_cast<double>(pairs.size()) / groups;
  for (const auto& [from, to] : pairs) {
    if (from == to) continue;
    cluster.links.push_back({.from = {name(from)},
                             .to = {name(to)},
                             .bytes_per_second = SentBy(kind, routers * nodes) / oversubscription / links_of_group});
  }
  NameNodes(names, seed, &cluster);
  return cluster;
}

Cluster RailOptimised(int pods, int nodes, double oversubscription, const NodeKind& kind, NodeNames names, uint64_t seed) {
  Cluster cluster;
  cluster.levels = {
      {.name = "pod", .uplink_bytes_per_second = kind.nic_bytes_per_second * nodes / oversubscription, .per_rail = true}};
  const Cluster::Node model = MakeNode(kind, true);
  for (int p = 0; p < pods; ++p) {
    for (int n = 0; n < nodes; ++n) cluster.nodes.emplace_back(model).labels = {absl::StrCat("pod", p + 1)};
  }
  NameNodes(names, seed, &cluster);
  return cluster;
}

}  // namespace muster
