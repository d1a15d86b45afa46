// Nodes with GPUs and RDMA NICs, as tests want them.
#ifndef MUSTER_TESTS_UNIT_NCCL_MADE_NODES_H_
#define MUSTER_TESTS_UNIT_NCCL_MADE_NODES_H_

#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "launcher/nccl/nccl_settings.h"

namespace muster {

// Below a switch of its own on one of two processors; `slot` is any number of its kind.
inline NodeDevices::Device OnSwitch(int pair, int pairs, int slot) {
  const int cpu = pair < (pairs + 1) / 2 ? 0 : 1;
  return {absl::StrFormat("%04x:%02x:00.0", cpu, 16 * pair + slot),
          {absl::StrFormat("pci%04x:00", cpu), absl::StrFormat("port%d", pair), absl::StrFormat("up%d", pair),
           absl::StrFormat("down%d.%d", pair, slot)},
          cpu,
          "32.0 GT/s PCIe",
          16};
}
// On the processor itself.
inline NodeDevices::Device OnRoot(int cpu, int slot) {
  return {absl::StrFormat("%04x:f%x:00.0", cpu, slot),
          {absl::StrFormat("pci%04x:00", cpu), absl::StrFormat("root%d", slot)},
          cpu,
          "16.0 GT/s PCIe",
          16};
}

inline void AddNic(NodeDevices::Device device, const std::string& name, double gbits, NodeDevices* devices) {
  devices->ports.push_back({.device = name,
                            .number = 1,
                            .nic = static_cast<int>(devices->nics.size()),
                            .active = true,
                            .ethernet = false,
                            .bytes_per_second = gbits * 1e9 / 8,
                            .interface = "ib_" + name,
                            .unusable = ""});
  devices->nics.push_back(std::move(device));
}

// `pairs` switches with a GPU and a NIC of 400 Gbit/s each (PREFIX0 and on), and `storage` NICs elsewhere (PREFIXs0 and on).
inline NcclNode RailNode(const std::string& host, int pairs, int storage, const std::string& prefix = "mlx5_") {
  NcclNode node;
  node.host = host;
  node.address = "10.0.0.1";
  for (int i = 0; i < pairs; ++i) {
    node.devices.gpus.push_back(OnSwitch(i, pairs, 1));
    AddNic(OnSwitch(i, pairs, 2), absl::StrFormat("%s%d", prefix, i), 400, &node.devices);
  }
  for (int i = 0; i < storage; ++i) AddNic(OnRoot(i % 2, i), absl::StrFormat("%ss%d", prefix, i), 400, &node.devices);
  return node;
}

// The node's first `rails` NICs as a cluster file lists them, each with its rail, and as many GPUs.
inline void ListRails(NcclNode* node, int rails) {
  for (int i = 0; i < rails; ++i) {
    node->listed.gpus.push_back({"", -1});
    node->listed.nics.push_back({node->devices.ports[static_cast<size_t>(i)].device, -1, i, 50e9});
  }
}

inline std::string ValueOf(const NcclSettings& settings, size_t node, const std::string& name) {
  for (const NcclVariable& one : settings.nodes[node].variables) {
    if (one.name == name) return one.value;
  }
  return "";
}

}  // namespace muster

#endif  // MUSTER_TESTS_UNIT_NCCL_MADE_NODES_H_
