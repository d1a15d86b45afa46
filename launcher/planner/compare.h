// How good an order of nodes is: what its rings cross, and how fast they are on the cluster's network.
#ifndef MUSTER_LAUNCHER_PLANNER_COMPARE_H_
#define MUSTER_LAUNCHER_PLANNER_COMPARE_H_

#include <string>
#include <vector>

#include "launcher/fabric/network.h"
#include "launcher/topology/cluster.h"
#include "launcher/topology/group_tree.h"

namespace muster {

struct OrderQuality {
  // By level, outermost first, of the first ring: all of them are alike.
  std::vector<double> crossings;
  std::vector<double> worst;  // edges that leave the group that most leave
  // What an all-reduce of large messages reaches with all rings (ring_forecast.h); 0: no bandwidth on the way is known.
  double bus_bytes_per_second = 0;
  std::string slowest_link;    // "uplink of rack r1, leaf l7"; empty: not known
  int slowest_link_edges = 0;  // edges of all rings through it
};

// Ring j goes through each node's j-th NIC (rings.h).
OrderQuality JudgeRings(const Cluster& cluster, const GroupTree& tree, const Network& network,
                        const std::vector<std::vector<int>>& rings);

// The same for `count` rings that all follow `order`, every second the other way round, as NCCL's channels follow the ranks.
OrderQuality JudgeOrder(const Cluster& cluster, const GroupTree& tree, const Network& network, const std::vector<int>& order,
                        int count);

// The mean over kRandomOrders orders that are always the same ones; it names no link.
inline constexpr int kRandomOrders = 5;
OrderQuality JudgeRandomOrders(const Cluster& cluster, const GroupTree& tree, const Network& network, int count);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PLANNER_COMPARE_H_
