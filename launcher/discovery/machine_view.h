// One machine's GPUs and NICs from all that is known of it: the bus as hwloc sees it, NVML, what Kubernetes says of devices that it gave.
// Pure.
#ifndef MUSTER_LAUNCHER_DISCOVERY_MACHINE_VIEW_H_
#define MUSTER_LAUNCHER_DISCOVERY_MACHINE_VIEW_H_

#include <functional>
#include <string>
#include <vector>

#include "launcher/discovery/nvml.h"
#include "launcher/labels/device_metadata.h"
#include "launcher/placement/topology.h"
#include "launcher/topology/cluster.h"

namespace muster {

struct MachineView {
  Cluster::Node node;  // its labels are left empty
  // Beside node.gpus.
  std::vector<std::string> gpu_models, gpu_buses;
  std::vector<std::vector<std::string>> gpu_faults;
  // Beside node.nics: other names of the same card, buses.
  std::vector<std::string> nic_siblings, nic_buses;
  std::string fabric;  // NVLink domain of several machines; empty: none
  size_t packages = 0, numa_nodes = 0, cores = 0, processors = 0;
  std::string processor_list;      // "0-31"
  std::vector<std::string> notes;  // a sentence each
};

// Bytes per second each way; 0: not known.
using NicSpeed = std::function<double(const std::string& name)>;

// GPUs in the order of the bus, as NVML counts them by default; each is named by its UUID where that is known, else by its bus address.
// Where two sources differ the more trusted is taken and a note names both: what Kubernetes says, then the bus, then NVML's list.
MachineView DescribeMachine(const std::string& name, const Topology& machine, const NvmlView& nvml,
                            const std::vector<GivenDevice>& given, const NicSpeed& speed);

// How far two devices are apart by the bridges and memory nodes above them.
// Source: the legend of `nvidia-smi topo -m`.
PciDistance DistanceOf(const Topology::Device& one, const Topology::Device& other);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_DISCOVERY_MACHINE_VIEW_H_
