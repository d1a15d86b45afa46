// A node's GPUs and RDMA NICs, as NCCL will find them.
#ifndef MUSTER_LAUNCHER_NCCL_NODE_DEVICES_H_
#define MUSTER_LAUNCHER_NCCL_NODE_DEVICES_H_

#include <string>
#include <vector>

namespace muster {

struct NodeDevices {
  struct Device {
    std::string bus;                   // "0000:3b:00.0"
    std::vector<std::string> bridges;  // above it, from the host bridge ("pci0000:3a") down to the nearest
    int numa = -1;                     // -1: not known
    std::string link_speed;            // that it is capable of, as the kernel writes it: "32.0 GT/s PCIe"; empty: not known
    int link_width = 0;                // lanes; 0: not known
  };
  // NCCL takes ports, not cards.
  struct Port {
    std::string device;  // "mlx5_0"
    int number = 1;
    int nic = 0;                  // place in `nics`
    bool active = false;          // else down, or not yet configured
    bool ethernet = false;        // RoCE; else InfiniBand
    double bytes_per_second = 0;  // 0: not known
    std::string interface;        // network interface, "ib0"; empty: none
    // Why no process here can open its device, as a container may have the NIC without it: "/dev/infiniband/uverbs0 is not there".
    // Empty: it can be opened.
    std::string unusable;
    bool is_up() const { return active && unusable.empty(); }  // NCCL can use it
  };
  std::vector<Device> gpus;        // NVIDIA's, in the order of the bus
  std::vector<Device> nics;        // in the order of the bus
  std::vector<Port> ports;         // in the order of their NICs and numbers
  bool has_topology_file = false;  // the platform tells NCCL of the bus itself: /var/run/nvidia-topologyd/virtualTopology.xml
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_NCCL_NODE_DEVICES_H_
