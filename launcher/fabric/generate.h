// Clusters to try plans on: fat trees, dragonflies, rail-optimised fabrics.
#ifndef MUSTER_LAUNCHER_FABRIC_GENERATE_H_
#define MUSTER_LAUNCHER_FABRIC_GENERATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/topology/cluster.h"

namespace muster {

// What nodes of all of these are. GPU g and NIC n = g * nics / gpus are behind one PCIe switch.
struct NodeKind {
  int gpus = 8;
  int nics = 8;
  double nic_bytes_per_second = 5e10;  // 400 Gbit/s
};

// How nodes get their names.
enum class NodeNames {
  kByPlace,   // node1, node2, ... along the switches, as in a machine room that was named with care
  kShuffled,  // the same names dealt out at random: as a cloud does, or years of repairs
};

// A tree of switches, `fan_out` from the outermost level to the nodes of an innermost group: {4, 8, 32} is 4 blocks of 8 leaves of 32
// nodes; 2 to 4 entries. Each group's uplink carries what all its nodes send, divided by `oversubscription` on the innermost level
// (a leaf's 4:1) and not divided further above.
Cluster FatTree(const std::vector<int>& fan_out, double oversubscription, const NodeKind& kind, NodeNames names, uint64_t seed);

// `groups` of `routers` of `nodes` each. Group g has a direct link to g +- each of `distances` (mod groups), in an order of their labels that
// says nothing of it; all links of a group together carry what its nodes send, divided by `oversubscription`.
// Source: Kim, Dally, Scott and Abts, ISCA 2008, whose groups are fully connected; larger machines leave links out.
Cluster Dragonfly(int groups, int routers, int nodes, const std::vector<int>& distances, double oversubscription,
                  const NodeKind& kind, NodeNames names, uint64_t seed);

// `pods` of `nodes` each, with a switch for each NIC's rail in every pod, whose uplink carries what the pod's nodes send on that rail,
// divided by `oversubscription`.
// Source: NVIDIA DGX SuperPOD reference architecture, which calls pods scalable units.
Cluster RailOptimised(int pods, int nodes, double oversubscription, const NodeKind& kind, NodeNames names, uint64_t seed);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_FABRIC_GENERATE_H_
