#include "launcher/topology/cluster.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr int kNumaMax = 1024;
constexpr int64_t kLatencyMaxNs = int64_t{3600} * 1'000'000'000;

using Labels = std::vector<std::string>;

template <typename... Parts>
absl::Status Wrong(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

std::string Shown(absl::string_view name) {
  constexpr size_t kShownMax = 80;
  return absl::StrCat(absl::Utf8SafeCHexEscape(name.substr(0, kShownMax)), name.size() > kShownMax ? "..." : "");
}

bool IsSpeed(double bytes_per_second) { return bytes_per_second >= 0 && bytes_per_second <= kBytesPerSecondMax; }

bool IsLatency(int64_t nanoseconds) { return nanoseconds >= 0 && nanoseconds <= kLatencyMaxNs; }

// A bandwidth and a latency as `place` declares or measures them.
absl::Status CheckNumbers(const std::string& place, double bytes_per_second, int64_t latency_ns) {
  if (!IsSpeed(bytes_per_second)) {
    return Wrong(place, ": a bandwidth of ", bytes_per_second, " bytes/s; it is 0 (not known) to ", kBytesPerSecondMax);
  }
  if (!IsLatency(latency_ns)) {
    return Wrong(place, ": a latency of ", latency_ns, " ns; it is 0 (not known) to ", kLatencyMaxNs);
  }
  return absl::OkStatus();
}

absl::Status CheckLevels(const Cluster& cluster) {
  if (cluster.levels.size() > kClusterLevelsMax) {
    return Wrong(cluster.levels.size(), " levels; a cluster has ", kClusterLevelsMax, " at most");
  }
  absl::flat_hash_set<std::string> names;
  for (size_t i = 0; i < cluster.levels.size(); ++i) {
    const Cluster::Level& level = cluster.levels[i];
    if (level.name.empty()) return Wrong("level ", i, ", counted from the outermost: has no name");
    if (!names.insert(level.name).second) return Wrong("level ", Shown(level.name), ": there are two of this name");
    MUSTER_RETURN_IF_ERROR(CheckNumbers("level " + Shown(level.name), level.uplink_bytes_per_second, level.latency_ns));
  }
  return absl::OkStatus();
}

std::string LevelNames(const Cluster& cluster) {
  if (cluster.levels.empty()) return "none";
  return absl::StrJoin(cluster.levels, ", ",
                       [](std::string* out, const Cluster::Level& level) { absl::StrAppend(out, Shown(level.name)); });
}

absl::Status CheckNode(const Cluster& cluster, const Cluster::Node& node) {
  const std::string place = "node " + Shown(node.name);
  if (node.labels.size() != cluster.levels.size()) {
    return Wrong(place, ": has ", node.labels.size(), " labels for ", cluster.levels.size(), " levels (", LevelNames(cluster),
                 ")");
  }
  if (node.gpus.size() > kNodeDevicesMax || node.nics.size() > kNodeDevicesMax) {
    return Wrong(place, ": ", node.gpus.size(), " GPUs and ", node.nics.size(), " NICs; a node has ", kNodeDevicesMax,
                 " of each at most");
  }
  for (size_t g = 0; g < node.gpus.size(); ++g) {
    const int numa = node.gpus[g].numa;
    if (numa < -1 || numa > kNumaMax) return Wrong(place, ": GPU ", g, " in NUMA node ", numa, "; -1 is not known");
  }
  for (size_t n = 0; n < node.nics.size(); ++n) {
    const Cluster::Nic& nic = node.nics[n];
    const std::string nic_place = absl::StrCat(place, ": NIC ", n, nic.name.empty() ? "" : " ", Shown(nic.name));
    if (nic.numa < -1 || nic.numa > kNumaMax) return Wrong(nic_place, " in NUMA node ", nic.numa, "; -1 is not known");
    if (nic.rail < -1 || nic.rail >= static_cast<int>(kNodeDevicesMax)) {
      return Wrong(nic_place, " on rail ", nic.rail, "; rails are 0 to ", kNodeDevicesMax - 1, ", and -1 is none");
    }
    MUSTER_RETURN_IF_ERROR(CheckNumbers(nic_place, nic.bytes_per_second, 0));
  }
  if (!node.distances.empty() && node.distances.size() != node.gpus.size() * node.nics.size()) {
    return Wrong(place, ": ", node.distances.size(), " distances for ", node.gpus.size(), " GPUs and ", node.nics.size(),
                 " NICs");
  }
  if (!node.nvlinks.empty() && node.nvlinks.size() != node.gpus.size() * node.gpus.size()) {
    return Wrong(place, ": ", node.nvlinks.size(), " counts of NVLinks for pairs of ", node.gpus.size(), " GPUs");
  }
  return absl::OkStatus();
}

// Every group that a node is in, by its labels.
absl::flat_hash_set<Labels> Groups(const Cluster& cluster) {
  absl::flat_hash_set<Labels> groups;
  for (const Cluster::Node& node : cluster.nodes) {
    // Nodes of one innermost group are many: the rest of the way up has been walked for the first.
    for (size_t size = node.labels.size(); size > 0; --size) {
      if (!groups.insert(Labels(node.labels.begin(), node.labels.begin() + static_cast<std::ptrdiff_t>(size))).second) break;
    }
  }
  return groups;
}

absl::Status CheckGroup(const Cluster& cluster, const absl::flat_hash_set<Labels>& groups, const std::string& place,
                        const Labels& group) {
  if (group.empty() || group.size() > cluster.levels.size() || group.back().empty()) {
    return Wrong(place, ": names a group by ", group.size(), " labels; one has 1 to ", cluster.levels.size(),
                 " for the levels ", LevelNames(cluster), ", and the last is not empty");
  }
  if (!groups.contains(group)) {
    return Wrong(place, ": no node is in the group ", GroupText(cluster, group), "; correct its labels, or leave it out");
  }
  return absl::OkStatus();
}

absl::Status CheckUplinks(const Cluster& cluster, const absl::flat_hash_set<Labels>& groups) {
  absl::flat_hash_set<Labels> seen;
  for (const Cluster::Uplink& uplink : cluster.uplinks) {
    MUSTER_RETURN_IF_ERROR(CheckGroup(cluster, groups, "an uplink", uplink.group));
    const std::string place = "the uplink of " + GroupText(cluster, uplink.group);
    if (!seen.insert(uplink.group).second) return Wrong(place, ": said twice; leave one out");
    MUSTER_RETURN_IF_ERROR(CheckNumbers(place, uplink.bytes_per_second, 0));
    if (uplink.bytes_per_second == 0) return Wrong(place, ": has no bandwidth");
  }
  return absl::OkStatus();
}

absl::Status CheckLinks(const Cluster& cluster, const absl::flat_hash_set<Labels>& groups) {
  absl::flat_hash_set<std::pair<Labels, Labels>> seen;
  for (const Cluster::Link& link : cluster.links) {
    MUSTER_RETURN_IF_ERROR(CheckGroup(cluster, groups, "a link", link.from));
    MUSTER_RETURN_IF_ERROR(CheckGroup(cluster, groups, "a link", link.to));
    const std::string place =
        absl::StrCat("the link between ", GroupText(cluster, link.from), " and ", GroupText(cluster, link.to));
    const bool siblings = link.from.size() == link.to.size() && link.from.back() != link.to.back() &&
                          std::equal(link.from.begin(), link.from.end() - 1, link.to.begin());
    if (!siblings) return Wrong(place, ": it joins two groups of one level that lie in the same group above it");
    if (!seen.insert(std::minmax(link.from, link.to)).second) return Wrong(place, ": said twice; leave one out");
    MUSTER_RETURN_IF_ERROR(CheckNumbers(place, link.bytes_per_second, link.latency_ns));
    if (link.bytes_per_second == 0) return Wrong(place, ": has no bandwidth");
  }
  return absl::OkStatus();
}

absl::Status CheckMeasurements(const Cluster& cluster) {
  absl::flat_hash_set<std::pair<int, int>> seen;
  seen.reserve(cluster.measurements.size());
  const int nodes = static_cast<int>(cluster.nodes.size());
  for (const Cluster::Measurement& one : cluster.measurements) {
    if (one.from < 0 || one.from >= nodes || one.to < 0 || one.to >= nodes) {
      return Wrong("a measurement from node number ", one.from, " to ", one.to, ": there are ", nodes, " nodes");
    }
    const std::string& from = cluster.nodes[static_cast<size_t>(one.from)].name;
    const std::string& to = cluster.nodes[static_cast<size_t>(one.to)].name;
    if (one.from == one.to) return Wrong("a measurement from node ", Shown(from), " to itself; leave it out");
    if (!seen.emplace(one.from, one.to).second) {
      return Wrong("the measurement from node ", Shown(from), " to ", Shown(to), ": said twice; leave one out");
    }
    // In the common case no text is made.
    if (IsSpeed(one.bytes_per_second) && IsLatency(one.latency_ns)) continue;
    return CheckNumbers(absl::StrCat("the measurement from node ", Shown(from), " to ", Shown(to)), one.bytes_per_second,
                        one.latency_ns);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckCluster(const Cluster& cluster) {
  if (cluster.nodes.empty()) return Wrong("the cluster has no nodes");
  if (cluster.nodes.size() > kClusterNodesMax) {
    return Wrong(cluster.nodes.size(), " nodes; a cluster has ", kClusterNodesMax, " at most");
  }
  MUSTER_RETURN_IF_ERROR(CheckLevels(cluster));
  absl::flat_hash_set<absl::string_view> names;
  names.reserve(cluster.nodes.size());
  for (size_t i = 0; i < cluster.nodes.size(); ++i) {
    const Cluster::Node& node = cluster.nodes[i];
    if (node.name.empty()) return Wrong("node number ", i, ": has no name");
    if (!names.insert(node.name).second) return Wrong("node ", Shown(node.name), ": there are two of this name");
    MUSTER_RETURN_IF_ERROR(CheckNode(cluster, node));
  }
  const absl::flat_hash_set<Labels> groups = Groups(cluster);
  MUSTER_RETURN_IF_ERROR(CheckUplinks(cluster, groups));
  MUSTER_RETURN_IF_ERROR(CheckLinks(cluster, groups));
  return CheckMeasurements(cluster);
}

std::string GroupText(const Cluster& cluster, const std::vector<std::string>& labels) {
  std::vector<std::string> parts;
  for (size_t i = 0; i < labels.size() && i < cluster.levels.size(); ++i) {
    if (!labels[i].empty()) parts.push_back(absl::StrCat(Shown(cluster.levels[i].name), " ", Shown(labels[i])));
  }
  return absl::StrJoin(parts, ", ");
}

const char* PciDistanceName(PciDistance distance) {
  switch (distance) {
    case PciDistance::kPix:
      return "PIX";
    case PciDistance::kPxb:
      return "PXB";
    case PciDistance::kPhb:
      return "PHB";
    case PciDistance::kNode:
      return "NODE";
    case PciDistance::kSys:
      return "SYS";
    case PciDistance::kUnknown:
      break;
  }
  return "?";
}

}  // namespace muster
