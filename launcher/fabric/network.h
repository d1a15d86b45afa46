// The links of a cluster and the ways through them, for a simulation of flows.
//
// A node sends and receives through its NICs; a group of nodes through its uplink (one for each rail where its level has rails), both
// directions at once; groups that direct links join use these. Switches themselves, and all traffic inside a node, are as fast as
// they need be, and several cables of one uplink share their load evenly: what a plan is compared with is the best that such a
// network can do, and its worst links are those that any real one has too.
#ifndef MUSTER_LAUNCHER_FABRIC_NETWORK_H_
#define MUSTER_LAUNCHER_FABRIC_NETWORK_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "launcher/topology/cluster.h"
#include "launcher/topology/group_tree.h"

namespace muster {

class Network {
 public:
  // Both are borrowed for the network's life; `cluster` has passed CheckCluster.
  Network(const Cluster& cluster, const GroupTree& tree);

  // By link number, bytes/s; infinite where the cluster does not say.
  const std::vector<double>& capacities() const { return capacities_; }
  // "uplink of leaf l7", "NIC mlx5_0 of node n3, sending".
  std::string LinkText(int link) const;

  struct Route {
    std::vector<int> links;
    int64_t latency_ns = 0;  // of the uplinks and links that are passed
  };
  // From a NIC of one node to a NIC of another (-1: a node whose NICs are not known). Through direct links by the fewest of them;
  // of equally few the same one always.
  Route Between(int from_node, int from_nic, int to_node, int to_nic) const;

 private:
  enum class Kind { kNicOut, kNicIn, kUp, kDown, kDirect };
  struct Link {
    Kind kind;
    int place;  // node or group
    int part;   // NIC, rail, or the group that a direct link leads to
  };

  int Add(Link link, double capacity);
  int RailOf(int node, int nic) const;
  // Into `route`: from sibling to sibling through direct links. False where there is no such way.
  bool AppendDirect(int from_group, int to_group, Route* route) const;

  const Cluster& cluster_;
  const GroupTree& tree_;
  std::vector<Link> links_;
  std::vector<double> capacities_;
  std::vector<int> first_nic_;     // by node: the link of its first NIC's sending side, then receiving, then the next NIC's
  std::vector<int> first_uplink_;  // by group: the link up of its first rail, then down, then the next rail's
  std::vector<int> rails_;         // by level
  struct Hop {
    int to = 0;  // group
    int link = -1;
    double bytes_per_second = 0;
    int64_t latency_ns = 0;
  };
  std::vector<std::vector<Hop>> hops_;  // by group
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_FABRIC_NETWORK_H_
