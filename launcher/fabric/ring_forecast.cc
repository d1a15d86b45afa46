#include "launcher/fabric/ring_forecast.h"

#include <algorithm>
#include <limits>

#include "launcher/fabric/fair_share.h"

namespace muster {
namespace {

size_t At(int index) { return static_cast<size_t>(index); }

}  // namespace

RingForecast ForecastAllReduce(const Network& network, const std::vector<ForecastRing>& rings, double bytes) {
  RingForecast forecast;
  std::vector<Flow> flows;
  std::vector<int64_t> latency_ns;  // of each ring's slowest edge
  std::vector<int> edges(network.capacities().size(), 0);
  for (const ForecastRing& ring : rings) {
    std::vector<int> passes(network.capacities().size(), 0);
    int64_t latest = 0;
    for (size_t i = 0; i < ring.nodes.size() && ring.nodes.size() > 1; ++i) {
      const size_t next = (i + 1) % ring.nodes.size();
      const Network::Route route = network.Between(ring.nodes[i], ring.nics[i], ring.nodes[next], ring.nics[next]);
      for (const int link : route.links) ++passes[At(link)];
      latest = std::max(latest, route.latency_ns);
    }
    Flow flow;
    for (size_t link = 0; link < passes.size(); ++link) {
      edges[link] += passes[link];
      if (passes[link] > 0) flow.uses.push_back({static_cast<int>(link), static_cast<double>(passes[link])});
    }
    flows.push_back(std::move(flow));
    latency_ns.push_back(latest);
  }
  const std::vector<double> rates = FairRates(network.capacities(), flows);
  std::vector<double> load(network.capacities().size(), 0);  // bytes/s
  for (size_t r = 0; r < rings.size(); ++r) {
    if (rates[r] == std::numeric_limits<double>::infinity()) continue;
    for (const Flow::Use& use : flows[r].uses) load[At(use.link)] += rates[r] * use.share;
  }

  double slowest = std::numeric_limits<double>::infinity();
  for (size_t r = 0; r < rings.size(); ++r) {
    const double nodes = static_cast<double>(rings[r].nodes.size()), part = bytes / static_cast<double>(rings.size());
    const double step = static_cast<double>(latency_ns[r]) * 1e-9 + part / nodes / rates[r];
    forecast.seconds = std::max(forecast.seconds, 2 * (nodes - 1) * step);
    if (rates[r] >= slowest) continue;
    slowest = rates[r];
    // The link that is full, and of several the one that most edges pass through.
    for (const Flow::Use& use : flows[r].uses) {
      const double capacity = network.capacities()[At(use.link)];
      if (load[At(use.link)] < capacity * (1 - 1e-9)) continue;
      if (edges[At(use.link)] <= forecast.slowest_link_edges && forecast.slowest_link >= 0) continue;
      forecast.slowest_link = use.link;
      forecast.slowest_link_edges = edges[At(use.link)];
    }
  }
  forecast.bus_bytes_per_second = slowest * static_cast<double>(rings.size());
  return forecast;
}

}  // namespace muster
