// What a node's processors look like: packages, memory nodes, caches, cores, hardware threads, and the devices near to them.
//
// A thin, immutable view over an hwloc topology. It travels between agent and coordinator as XML without what mapping does not
// need. Source: hwloc 2.9, https://www.open-mpi.org/projects/hwloc/doc/v2.9.0/ .
#ifndef MUSTER_LAUNCHER_PLACEMENT_TOPOLOGY_H_
#define MUSTER_LAUNCHER_PLACEMENT_TOPOLOGY_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launcher/placement/cpu_set.h"
#include "launcher/placement/policy.h"

struct hwloc_topology;

namespace muster {

class Topology {
 public:
  struct Object {
    PlacementLevel level = PlacementLevel::kNode;
    uint32_t index = 0;  // among its level, from the first to the last
    CpuSet cpus;
  };
  struct Device {
    std::string name;     // "cuda0", "eth0", "card0", "mlx5_0"
    bool gpu = false;     // else a network interface
    CpuSet nearest;       // processors of the smallest part of the machine it hangs on
    CpuSet memory_nodes;  // of that part
    bool infiniband =
        false;        // a network interface of the verbs kind ("mlx5_0"): its sibling on the bus is the Ethernet or IP one
    std::string bus;  // "0000:3b:00.0"; empty: not on a PCI bus
    std::vector<std::string> bridges;  // above it on the bus, each by a name of its own, from the machine down to the nearest
  };

  // This machine as this process may use it, with devices.
  static absl::StatusOr<Topology> Discover();
  // "pack:2 numa:2 l3:4 core:8 pu:1". Errors of these: InvalidArgument.
  static absl::StatusOr<Topology> FromSynthetic(const std::string& description);
  static absl::StatusOr<Topology> FromXml(const std::string& xml);

  // Only what contains one of `cpus` is left. Errors: InvalidArgument when nothing is.
  absl::StatusOr<Topology> Restricted(const CpuSet& cpus) const;
  absl::StatusOr<std::string> ToXml() const;

  CpuSet cpus() const;
  // All objects of a level in logical order; kNode and kSlot: the machine. Empty where the machine has none.
  std::vector<Object> ObjectsOf(PlacementLevel level) const;
  // How many processors a policy counts there: cores, or hardware threads where `hwthread_cpus` or no core is known.
  uint32_t ProcessorsIn(const CpuSet& cpus, bool hwthread_cpus) const;
  // Memory nodes with a processor of `cpus`.
  CpuSet MemoryNodesOf(const CpuSet& cpus) const;
  std::vector<Device> Devices() const;

 private:
  explicit Topology(hwloc_topology* topology);
  std::shared_ptr<hwloc_topology> topology_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PLACEMENT_TOPOLOGY_H_
