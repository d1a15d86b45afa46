// How fast a ring all-reduce is on a network: from the load of its links.
#ifndef MUSTER_LAUNCHER_FABRIC_RING_FORECAST_H_
#define MUSTER_LAUNCHER_FABRIC_RING_FORECAST_H_

#include <cstdint>
#include <vector>

#include "launcher/fabric/network.h"

namespace muster {

// One ring over nodes: `nodes[i]` sends to `nodes[i + 1]`, through `nics[i]` of each.
struct ForecastRing {
  std::vector<int> nodes;
  std::vector<int> nics;  // -1: not known
};

struct RingForecast {
  // What large messages reach, as nccl-tests counts it: 2(N-1)/N times the bytes, over the time. Infinite where nothing on the way
  // has a bandwidth that is known.
  double bus_bytes_per_second = 0;
  int slowest_link = -1;       // the link that holds up the slowest ring; -1: none is known
  int slowest_link_edges = 0;  // edges of all rings that pass through it
  double seconds = 0;          // for the bytes asked for, with the latency of the slowest edge in each step
};

// All-reduce of `bytes`, an equal part by each ring, all at the same time. In a ring every edge moves as fast as the slowest, so a
// ring is one flow that uses each link as often as it passes through it; rings share links max-min fairly. 2(N-1) steps of
// bytes / (rings N) each, N being the number of nodes.
RingForecast ForecastAllReduce(const Network& network, const std::vector<ForecastRing>& rings, double bytes);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_FABRIC_RING_FORECAST_H_
