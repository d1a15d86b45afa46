// A node's GPUs and RDMA NICs from sysfs and /dev: what NCCL will see of them.
#ifndef MUSTER_LAUNCHER_DISCOVERY_NODE_DEVICES_H_
#define MUSTER_LAUNCHER_DISCOVERY_NODE_DEVICES_H_

#include <string>

#include "launcher/nccl/node_devices.h"

namespace muster {

// Where a platform puts a description of the bus, which NCCL reads without being told. Source: NCCL 2.28, graph/topo.cc.
inline constexpr char kPlatformTopologyFile[] = "/var/run/nvidia-topologyd/virtualTopology.xml";

// Reads some dozens of small files; nothing is opened but them, no driver is touched. Without RDMA NICs nothing is looked for. What cannot
// be read is left at its default. GPUs are NVIDIA's on the bus, whether this process may use them or not; of RDMA NICs is said whether it
// may (access), which also a container's device rules decide. `dev`: where devices are, /dev.
// Source: rdma-core, libibverbs/init.c and device.c: a NIC is opened by /dev/infiniband/uverbsN, whose `ibdev` in sysfs names the NIC.
NodeDevices ReadNodeDevices(const std::string& sysfs = "/sys", const std::string& topology_file = kPlatformTopologyFile,
                            const std::string& dev = "/dev");

}  // namespace muster

#endif  // MUSTER_LAUNCHER_DISCOVERY_NODE_DEVICES_H_
