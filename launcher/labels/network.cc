#include "launcher/labels/network.h"

#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/topology/group_tree.h"
#include "launcher/yaml/cluster_file.h"
#include "runtime/base/status.h"

namespace muster {

absl::StatusOr<std::vector<NetworkSource>> ReadNetworkFiles(const std::vector<NetworkFile>& files, const LabelDialect* own_keys,
                                                            const std::string& own_node) {
  std::vector<NetworkSource> sources;
  for (const NetworkFile& file : files) {
    const LabelFileKind kind = file.file.kind == LabelFileKind::kGuess ? GuessKind(file.text) : file.file.kind;
    if (kind == LabelFileKind::kCluster) {
      MUSTER_ASSIGN_OR_RETURN(Cluster cluster, ParseClusterFile(file.file.path, file.text));
      LabelSet labels = LabelsOfCluster(cluster, file.file.path);
      sources.push_back({std::move(labels), std::move(cluster), true});
      continue;
    }
    MUSTER_ASSIGN_OR_RETURN(std::vector<LabelSet> sets, ReadLabelFile(file.file, kind, file.text, own_keys, own_node));
    if (sets.empty()) {
      sources.push_back(
          {{file.file.path, {}, {absl::StrCat(file.file.path, " has none of the labels that say where nodes stand")}},
           {},
           false});
    }
    for (LabelSet& set : sets) sources.push_back({std::move(set), {}, false});
  }
  return sources;
}

absl::StatusOr<KnownNetwork> KnowNetwork(const std::vector<NetworkSource>& sources, std::vector<std::string> nodes) {
  std::vector<LabelSet> by_trust;
  for (const NetworkSource& source : sources) by_trust.push_back(source.labels);
  for (size_t i = 0; nodes.empty() && i < by_trust.size(); ++i) {
    for (const NodeLabels& node : by_trust[i].nodes) nodes.push_back(node.node);
  }
  size_t taken = 0;
  const LabelSet chosen = ChooseLabels(by_trust, nodes, &taken);
  KnownNetwork network;
  network.source = chosen.source;
  network.notes = chosen.notes;
  if (taken < sources.size() && sources[taken].is_cluster) {
    network.cluster = SubsetOf(sources[taken].cluster, nodes);
  } else if (taken < sources.size()) {
    MUSTER_ASSIGN_OR_RETURN(network.cluster, ClusterOfLabels(chosen));
  } else {
    // Nobody's labels; a cluster file may still hold measurements.
    for (const NetworkSource& source : sources) {
      if (network.notes.size() < 64)
        network.notes.insert(network.notes.end(), source.labels.notes.begin(), source.labels.notes.end());
      if (!source.is_cluster || source.cluster.measurements.empty() || !network.cluster.nodes.empty()) continue;
      network.cluster = SubsetOf(source.cluster, nodes);
      network.source = source.labels.source;
    }
    if (network.cluster.nodes.empty()) network.cluster = SubsetOf(Cluster(), nodes);
  }
  if (!network.cluster.nodes.empty()) {
    for (std::string& doubt : LabelDoubts(network.cluster, GroupTree(network.cluster))) {
      network.notes.push_back(absl::StrCat(network.source, ": ", doubt));
    }
  }
  return network;
}

Cluster SubsetOf(const Cluster& cluster, const std::vector<std::string>& nodes) {
  Cluster part;
  part.levels = cluster.levels;
  LabelSet names;
  for (const Cluster::Node& node : cluster.nodes) names.nodes.push_back({node.name, {}});
  const LabelIndex index(names);
  std::map<int, int> place;  // in `part`, by the place in `cluster`
  std::set<std::vector<std::string>> groups;
  for (const std::string& name : nodes) {
    const NodeLabels* known = index.Find(name);
    Cluster::Node node;
    if (known != nullptr) {
      const auto at = static_cast<int>(known - names.nodes.data());
      node = cluster.nodes[static_cast<size_t>(at)];
      place.emplace(at, static_cast<int>(part.nodes.size()));
    }
    node.name = name;
    node.labels.resize(cluster.levels.size());
    for (size_t size = 1; size <= node.labels.size(); ++size) {
      groups.insert(std::vector<std::string>(node.labels.begin(), node.labels.begin() + static_cast<std::ptrdiff_t>(size)));
    }
    part.nodes.push_back(std::move(node));
  }
  for (const Cluster::Uplink& uplink : cluster.uplinks) {
    if (groups.contains(uplink.group)) part.uplinks.push_back(uplink);
  }
  for (const Cluster::Link& link : cluster.links) {
    if (groups.contains(link.from) && groups.contains(link.to)) part.links.push_back(link);
  }
  for (const Cluster::Measurement& measured : cluster.measurements) {
    const auto from = place.find(measured.from), to = place.find(measured.to);
    if (from == place.end() || to == place.end()) continue;
    Cluster::Measurement moved = measured;
    moved.from = from->second;
    moved.to = to->second;
    part.measurements.push_back(moved);
  }
  return part;
}

}  // namespace muster
