#include "launcher/cli/cluster_source.h"

#include <fstream>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "launcher/labels/label_file.h"
#include "launcher/labels/labels.h"
#include "launcher/topology/group_tree.h"
#include "launcher/yaml/cluster_file.h"
#include "runtime/base/nearest_name.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

absl::StatusOr<std::string> ReadText(const std::string& flag, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text;
  std::vector<char> block(1 << 16);
  while (file && text.size() <= kClusterFileBytesMax) {
    file.read(block.data(), static_cast<std::streamsize>(block.size()));
    text.append(block.data(), static_cast<size_t>(file.gcount()));
  }
  if (!file.is_open() || file.bad() || (file.fail() && !file.eof())) {
    return absl::NotFoundError(
        absl::StrCat(flag, " ", path, " cannot be read; name a file that describes the cluster (docs/topology.md)"));
  }
  return text;
}

}  // namespace

absl::StatusOr<ClusterSource> ReadCluster(const std::string& flag, const std::string& word) {
  absl::StatusOr<LabelFile> file = ParseLabelFile(word);
  if (!file.ok()) return Annotate(file.status(), flag);
  MUSTER_ASSIGN_OR_RETURN(const std::string text, ReadText(flag, file->path));
  if (absl::StripAsciiWhitespace(text).empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(file->path, ":1:1: the file is empty; a cluster has at least nodes: [node-a, node-b]"));
  }
  const LabelFileKind kind = file->kind == LabelFileKind::kGuess ? GuessKind(text) : file->kind;
  ClusterSource source;
  if (kind == LabelFileKind::kCluster) {
    MUSTER_ASSIGN_OR_RETURN(source.cluster, ParseClusterFile(file->path, text));
    return source;
  }
  MUSTER_ASSIGN_OR_RETURN(std::vector<LabelSet> sets, ReadLabelFile(*file, kind, text, nullptr, ""));
  if (sets.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(file->path, ": says of no node where it stands in the network"));
  }
  MUSTER_ASSIGN_OR_RETURN(source.cluster, ClusterOfLabels(sets[0]));
  if (const absl::Status checked = CheckCluster(source.cluster); !checked.ok()) return Annotate(checked, file->path);
  source.notes = std::move(sets[0].notes);
  return source;
}

absl::StatusOr<Cluster> ChooseNodes(Cluster cluster, const std::string& flag, const std::vector<std::string>& names) {
  std::map<std::string, int> places;
  for (size_t i = 0; i < cluster.nodes.size(); ++i) places[cluster.nodes[i].name] = static_cast<int>(i);
  std::vector<int> moved(cluster.nodes.size(), -1);
  Cluster chosen;
  for (const std::string& name : names) {
    const auto place = places.find(name);
    if (place == places.end()) {
      std::vector<std::string> known;
      for (const Cluster::Node& node : cluster.nodes) known.push_back(node.name);
      const std::string nearest = NearestName(name, known);
      return absl::NotFoundError(absl::StrCat(flag, ": the cluster has no node ", name,
                                              nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?")));
    }
    int& now = moved[static_cast<size_t>(place->second)];
    if (now >= 0) continue;
    now = static_cast<int>(chosen.nodes.size());
    chosen.nodes.push_back(std::move(cluster.nodes[static_cast<size_t>(place->second)]));
  }
  chosen.levels = std::move(cluster.levels);
  const GroupTree tree(chosen);
  for (Cluster::Uplink& uplink : cluster.uplinks) {
    if (tree.Find(uplink.group) >= 0) chosen.uplinks.push_back(std::move(uplink));
  }
  for (Cluster::Link& link : cluster.links) {
    if (tree.Find(link.from) >= 0 && tree.Find(link.to) >= 0) chosen.links.push_back(std::move(link));
  }
  for (Cluster::Measurement one : cluster.measurements) {
    one.from = moved[static_cast<size_t>(one.from)];
    one.to = moved[static_cast<size_t>(one.to)];
    if (one.from >= 0 && one.to >= 0) chosen.measurements.push_back(one);
  }
  return chosen;
}

}  // namespace muster
