// What NCCL is told of the network between the nodes of a job, by environment variables, and why. Pure.
//
// NCCL reads its variables once a process. Everything here is the same for all ranks of a node: they put their views of the node
// together by the numbers of NICs, so a rank that sees others than its neighbour breaks both. What both ends of a connection must
// agree on is the same on all nodes. Nothing is told that NCCL does by itself.
// Source: NCCL 2.28 user guide, Environment Variables; transport/net_ib, graph/topo.cc, graph/search.cc.
#ifndef MUSTER_LAUNCHER_NCCL_NCCL_SETTINGS_H_
#define MUSTER_LAUNCHER_NCCL_NCCL_SETTINGS_H_

#include <string>
#include <vector>

#include "launcher/nccl/node_devices.h"
#include "launcher/topology/cluster.h"

namespace muster {

struct NcclNode {
  std::string host;
  std::string address;   // numeric, by which the others reach it; empty: not known
  NodeDevices devices;   // as the node itself shows them; none: it has no RDMA NIC, or has not said
  Cluster::Node listed;  // GPUs and NICs as somebody lists them (a cluster file); none: nobody does
};

struct NcclKnowledge {
  std::vector<NcclNode> nodes;  // in the order of their ranks
  bool rail_optimised = false;  // a switch for each rail (Cluster::Level::per_rail)
  std::string source;           // whose lists `listed` are: "cluster.yaml"
};

struct NcclVariable {
  std::string name, value;
  std::string why;  // a part of a sentence
};

struct NcclSettings {
  struct Node {
    std::vector<NcclVariable> variables;
    std::string topology_xml;  // for a file that NCCL_TOPO_FILE names; empty: none is needed, or what it would say is not known
    std::string why_xml;
  };
  std::vector<Node> nodes;         // as in NcclKnowledge
  std::vector<std::string> notes;  // doubts and what should be looked at, a sentence each; at most 17
};

// NCCL_IB_HCA      the ports of the job's NICs, exactly those: the listed ones that are up and can be opened; of rails only those
//                  that every node with GPUs has. Where nobody lists NICs, those of one link layer, behind a switch with a GPU if every GPU has such a NIC,
//                  and not slower than half the fastest. Not set where that leaves nothing out, for NCCL takes all ports that are up.
// NCCL_CROSS_NIC=0 where the fabric has a switch for each rail: a ring stays on its rail.
// NCCL_IB_MERGE_NICS=0  where two ports of one card are on different rails, which NCCL would make one NIC of.
// NCCL_SOCKET_FAMILY=AF_INET6  where the nodes reach each other by IPv6 alone: NCCL takes an interface's first address.
// A topology file  where the bus is hidden and somebody has listed what it is like (topology_xml.h).
// Jobs of one node, and those without GPUs or RDMA NICs, get none of it but the family.
NcclSettings DecideNccl(const NcclKnowledge& known);

// What is set where and why: one sentence for each variable and value, as in
// "NCCL on node-a, node-b is told NCCL_CROSS_NIC=0: the fabric has a switch for each rail, and a ring stays on its own". At most 16.
std::vector<std::string> NcclReasons(const NcclKnowledge& known, const NcclSettings& settings);

// What a job on all of `cluster` will tell NCCL on one of its nodes, as far as the lists say it: sentences. What else the nodes have
// only they can say.
std::vector<std::string> ForeseeNccl(const Cluster& cluster, int node, const std::string& source);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_NCCL_NCCL_SETTINGS_H_
