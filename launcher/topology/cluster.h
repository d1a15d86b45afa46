// A cluster as data: what is known of its nodes, of the switches between them, and of how fast they reach each other.
//
// Every reader (a cluster file, Slurm's topology.conf, node labels of Kubernetes, hwloc and NVML, measurements) fills this struct,
// and the planner reads nothing else. Whatever is not known is left at its default; nothing but the nodes' names must be known.
#ifndef MUSTER_LAUNCHER_TOPOLOGY_CLUSTER_H_
#define MUSTER_LAUNCHER_TOPOLOGY_CLUSTER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace muster {

// How far a GPU is from a NIC, nearest first, in the words of `nvidia-smi topo -m`: behind one PCIe switch; behind several; at one
// host bridge; at several of one NUMA node; in another NUMA node.
enum class PciDistance : uint8_t { kPix, kPxb, kPhb, kNode, kSys, kUnknown };

struct Cluster {
  // One level of switches, or of what else joins nodes more closely than others: a block, a rack, a leaf switch, an NVLink domain.
  struct Level {
    std::string name;  // "leaf"
    // What one group of this level sends to the level above it, and as much at the same time the other way; 0: not known. The
    // sum of its cables: eight of 400 Gbit/s are 4e11 bytes/s.
    double uplink_bytes_per_second = 0;
    int64_t latency_ns = 0;  // that the way through such an uplink adds; 0: not known
    // The fabric is rail-optimised: each group has a switch, and an uplink of that size, for each rail of its nodes.
    bool per_rail = false;
  };

  struct Gpu {
    std::string name;  // UUID, PCI address, or empty
    int numa = -1;     // NUMA node; -1: not known
  };

  struct Nic {
    std::string name;  // "mlx5_0", "eth0"
    int numa = -1;
    int rail = -1;                // NICs of one rail, on all nodes, hang on the same switches; -1: the fabric has no rails
    double bytes_per_second = 0;  // each way; 0: not known
  };

  struct Node {
    std::string name;  // as its job calls it; no two are the same
    // Where it is: one label for each of the cluster's levels, outermost first; "" is not known. Labels are names within the group
    // above: rack r1 of block a and rack r1 of block b are two racks.
    std::vector<std::string> labels;
    std::vector<Gpu> gpus;
    std::vector<Nic> nics;
    std::vector<PciDistance> distances;  // of GPU g and NIC n at [g * nics.size() + n]; empty: not known
    std::vector<int> nvlinks;            // between GPUs g and h at [g * gpus.size() + h]; empty: not known
  };

  // A group's own uplink where it differs from its level's.
  struct Uplink {
    std::vector<std::string> group;  // its labels, from the outermost level down to its own
    double bytes_per_second = 0;     // as Level's, above 0
  };

  // A direct link between two groups of one level, as between the groups of a dragonfly: it replaces the way up through uplinks.
  // Two groups without one reach each other through others. Both directions alike.
  struct Link {
    std::vector<std::string> from, to;  // labels of each; two groups of one level and, but for it, of one group
    double bytes_per_second = 0;        // above 0
    int64_t latency_ns = 0;             // 0: not known
  };

  // From one node to another; the other direction is a measurement of its own. Not all pairs need one.
  struct Measurement {
    int from = 0, to = 0;         // places in `nodes`
    int64_t latency_ns = 0;       // one way, of a small message; 0: not measured
    double bytes_per_second = 0;  // 0: not measured
  };

  std::vector<Level> levels;  // outermost first
  std::vector<Node> nodes;    // in any order: it means nothing
  std::vector<Uplink> uplinks;
  std::vector<Link> links;
  std::vector<Measurement> measurements;
};

inline constexpr size_t kClusterNodesMax = 65'536;
inline constexpr size_t kClusterLevelsMax = 8;
inline constexpr size_t kNodeDevicesMax = 256;  // GPUs of a node, and its NICs
inline constexpr double kBytesPerSecondMax = 1e15;

// Whether the struct keeps what its comments promise: names that are there and differ, as many labels as levels, matrices of the
// right size, groups that exist, finite numbers in range. No node at all is wrong too.
// Errors: InvalidArgument that names the place: "node n7: has 2 labels for 3 levels (block, rack, leaf)".
absl::Status CheckCluster(const Cluster& cluster);

// "block b1, rack r2": labels of a group, or of a node, with their levels; what is not known is left out.
std::string GroupText(const Cluster& cluster, const std::vector<std::string>& labels);

// As `nvidia-smi topo -m` writes it: "PIX" ... "SYS"; "?".
const char* PciDistanceName(PciDistance distance);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_TOPOLOGY_CLUSTER_H_
