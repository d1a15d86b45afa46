#include "launcher/placement/map_text.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace muster {

std::string BindingPicture(const Topology& topology, const CpuSet& cpus) {
  std::string text;
  std::vector<Topology::Object> packages = topology.ObjectsOf(PlacementLevel::kPackage);
  if (packages.empty()) packages = topology.ObjectsOf(PlacementLevel::kNode);
  std::vector<Topology::Object> cores = topology.ObjectsOf(PlacementLevel::kCore);
  if (cores.empty()) cores = topology.ObjectsOf(PlacementLevel::kHwthread);
  for (const Topology::Object& package : packages) {
    std::vector<std::string> parts;
    for (const Topology::Object& core : cores) {
      if (!core.cpus.Intersects(package.cpus)) continue;
      std::string part;
      for (const uint32_t number : core.cpus.numbers()) part += cpus.Contains(number) ? 'B' : '.';
      parts.push_back(std::move(part));
    }
    absl::StrAppend(&text, "[", absl::StrJoin(parts, "/"), "]");
  }
  return text;
}

std::string BindingLine(const std::string& host, uint32_t rank, const Topology& topology, const CpuSet& cpus) {
  if (cpus.empty()) return absl::StrCat("[", host, "] rank ", rank, " is not bound");
  return absl::StrCat("[", host, "] rank ", rank, " bound to processors ", cpus.ListText(), ": ",
                      BindingPicture(topology, cpus));
}

std::vector<std::string> NearestDevices(const Topology& topology, const CpuSet& cpus, bool gpus) {
  size_t smallest = SIZE_MAX;
  const std::vector<Topology::Device> devices = topology.Devices();
  const auto fits = [&](const Topology::Device& device) { return device.gpu == gpus && device.nearest.Intersects(cpus); };
  for (const Topology::Device& device : devices) {
    if (fits(device)) smallest = std::min(smallest, device.nearest.size());
  }
  std::vector<std::string> names;
  for (const Topology::Device& device : devices) {
    if (fits(device) && device.nearest.size() == smallest) names.push_back(device.name);
  }
  return names;
}

std::string MapTable(const PlacementMap& map, const std::vector<PlacementNode>& nodes) {
  std::string text;
  for (size_t n = 0; n < nodes.size(); ++n) {
    const PlacementNode& node = nodes[n];
    const auto here = std::count_if(map.ranks.begin(), map.ranks.end(), [n](const PlacedRank& rank) { return rank.node == n; });
    absl::StrAppend(&text, "node ", node.host, ": slots ", node.slots, ", ranks ", here, ", processors ",
                    node.topology.cpus().ListText(), "\n");
    for (size_t r = 0; r < map.ranks.size(); ++r) {
      const PlacedRank& rank = map.ranks[r];
      if (rank.node != n) continue;
      absl::StrAppend(&text, "  rank ", r, ", local rank ", rank.local_rank, ": ");
      if (rank.cpus.empty()) {
        absl::StrAppend(&text, "not bound\n");
        continue;
      }
      absl::StrAppend(&text, "processors ", rank.cpus.ListText(), ", memory ", rank.memory_nodes.ListText());
      const std::vector<std::string> gpus = NearestDevices(node.topology, rank.cpus, true);
      const std::vector<std::string> interfaces = NearestDevices(node.topology, rank.cpus, false);
      if (!gpus.empty()) absl::StrAppend(&text, ", GPU ", absl::StrJoin(gpus, " "));
      if (!interfaces.empty()) absl::StrAppend(&text, ", NIC ", absl::StrJoin(interfaces, " "));
      absl::StrAppend(&text, "\n");
    }
  }
  return text;
}

}  // namespace muster
