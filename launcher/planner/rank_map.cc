#include "launcher/planner/rank_map.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

namespace muster {
namespace {

size_t At(int index) { return static_cast<size_t>(index); }

constexpr size_t kDistances = 6;
// How many GPUs are at each distance, the farthest first: the lexicographic order of these is "one farther weighs more than any
// number of nearer ones".
using Cost = std::array<int, kDistances>;

PciDistance DistanceOf(const Cluster::Node& node, size_t gpu, size_t nic) {
  if (!node.distances.empty()) {
    const PciDistance distance = node.distances[gpu * node.nics.size() + nic];
    if (distance != PciDistance::kUnknown) return distance;
  }
  if (node.gpus[gpu].numa < 0 || node.nics[nic].numa < 0) return PciDistance::kUnknown;
  return node.gpus[gpu].numa == node.nics[nic].numa ? PciDistance::kNode : PciDistance::kSys;
}

Cost Added(Cost cost, PciDistance distance, int by) {
  cost[kDistances - 1 - static_cast<size_t>(distance)] += by;
  return cost;
}

}  // namespace

// GPUs are taken in one by one; each time along the cheapest path of moves (this GPU to that NIC, whose GPU moves on to ...), as in
// successive shortest paths, found by Bellman and Ford's rounds over the NICs.
std::vector<int> NicsOfGpus(const Cluster::Node& node) {
  const size_t gpus = node.gpus.size(), nics = node.nics.size();
  std::vector<int> chosen(gpus, -1);
  if (nics == 0) return chosen;
  std::vector<size_t> load(nics, 0);
  for (size_t gpu = 0; gpu < gpus; ++gpu) {
    constexpr int kNone = -1, kDirect = -1;
    std::vector<Cost> cost(nics);
    std::vector<int> moved(nics, kDirect);  // the GPU that moves to this NIC, from its own; kDirect: the new one comes here
    std::vector<bool> reached(nics, true);
    for (size_t nic = 0; nic < nics; ++nic) cost[nic] = Added({}, DistanceOf(node, gpu, nic), 1);
    for (size_t round = 0; round < nics; ++round) {
      bool changed = false;
      for (size_t other = 0; other < gpu; ++other) {
        const size_t from = At(chosen[other]);
        for (size_t to = 0; to < nics; ++to) {
          if (to == from) continue;
          const Cost moves = Added(Added(cost[from], DistanceOf(node, other, from), -1), DistanceOf(node, other, to), 1);
          if (moves >= cost[to]) continue;
          cost[to] = moves;
          moved[to] = static_cast<int>(other);
          changed = true;
        }
      }
      if (!changed) break;
    }
    // A path ends at one of the least loaded NICs, so that shares stay equal.
    int end = kNone;
    const size_t least = *std::min_element(load.begin(), load.end());
    for (size_t nic = 0; nic < nics; ++nic) {
      if (load[nic] > least) continue;
      if (end == kNone || cost[nic] < cost[At(end)]) end = static_cast<int>(nic);
    }
    ++load[At(end)];
    for (int at = end; at >= 0;) {
      const int mover = moved[At(at)];
      const int to = at;
      if (mover == kDirect) {
        chosen[gpu] = to;
        break;
      }
      at = chosen[At(mover)];
      chosen[At(mover)] = to;
    }
  }
  return chosen;
}

std::vector<RankPlace> MapRanks(const Cluster& cluster, const std::vector<int>& order, int ranks_per_node) {
  std::vector<RankPlace> ranks;
  for (const int number : order) {
    const Cluster::Node& node = cluster.nodes[At(number)];
    const int gpus = static_cast<int>(node.gpus.size()), nics = static_cast<int>(node.nics.size());
    const std::vector<int> nic_of = NicsOfGpus(node);
    const int count = ranks_per_node > 0 ? ranks_per_node : std::max(gpus, 1);
    for (int local = 0; local < count; ++local) {
      const int gpu = gpus > 0 ? local % gpus : -1;
      ranks.push_back({.node = number,
                       .local_rank = local,
                       .gpu = gpu,
                       .nic = gpu >= 0   ? nic_of[At(gpu)]
                              : nics > 0 ? local % nics
                                         : -1});
    }
  }
  return ranks;
}

}  // namespace muster
