#include "launcher/planner/compare.h"

#include <algorithm>
#include <limits>

#include "launcher/fabric/ring_forecast.h"
#include "launcher/planner/plan.h"
#include "launcher/planner/ring_order.h"
#include "launcher/planner/rings.h"

namespace muster {
namespace {

size_t At(int index) { return static_cast<size_t>(index); }

}  // namespace

OrderQuality JudgeRings(const Cluster& cluster, const GroupTree& tree, const Network& network,
                        const std::vector<std::vector<int>>& rings) {
  OrderQuality quality;
  for (const Crossings& level : CountCrossings(tree, rings[0])) {
    quality.crossings.push_back(level.crossings);
    quality.worst.push_back(level.worst);
  }
  std::vector<ForecastRing> forecast_rings;
  for (size_t j = 0; j < rings.size(); ++j) {
    ForecastRing ring = {.nodes = rings[j], .nics = {}};
    for (const int node : ring.nodes) ring.nics.push_back(NicOfRing(cluster.nodes[At(node)], static_cast<int>(j)));
    forecast_rings.push_back(std::move(ring));
  }
  constexpr double kLarge = 1e9;
  const RingForecast forecast = ForecastAllReduce(network, forecast_rings, kLarge);
  const bool known = forecast.bus_bytes_per_second < std::numeric_limits<double>::infinity();
  quality.bus_bytes_per_second = known ? forecast.bus_bytes_per_second : 0;
  if (forecast.slowest_link >= 0) quality.slowest_link = network.LinkText(forecast.slowest_link);
  quality.slowest_link_edges = forecast.slowest_link_edges;
  return quality;
}

OrderQuality JudgeOrder(const Cluster& cluster, const GroupTree& tree, const Network& network, const std::vector<int>& order,
                        int count) {
  std::vector<std::vector<int>> rings(At(count), order);
  for (size_t j = 1; j < rings.size(); j += 2) std::reverse(rings[j].begin(), rings[j].end());
  return JudgeRings(cluster, tree, network, rings);
}

OrderQuality JudgeRandomOrders(const Cluster& cluster, const GroupTree& tree, const Network& network, int count) {
  OrderQuality mean;
  for (int i = 0; i < kRandomOrders; ++i) {
    const OrderQuality one = JudgeOrder(cluster, tree, network, RandomOrder(tree, static_cast<uint64_t>(i) + 1), count);
    if (i == 0) {
      mean = {.crossings = one.crossings, .worst = one.worst, .bus_bytes_per_second = one.bus_bytes_per_second};
      continue;
    }
    for (size_t level = 0; level < mean.crossings.size(); ++level) {
      mean.crossings[level] += one.crossings[level];
      mean.worst[level] += one.worst[level];
    }
    mean.bus_bytes_per_second += one.bus_bytes_per_second;
  }
  for (double& crossings : mean.crossings) crossings /= kRandomOrders;
  for (double& worst : mean.worst) worst /= kRandomOrders;
  mean.bus_bytes_per_second /= kRandomOrders;
  return mean;
}

}  // namespace muster
