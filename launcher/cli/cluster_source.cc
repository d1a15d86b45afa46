#include "launcher/cli/cluster_source.h"

#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "launcher/cli/topology_files.h"
#include "launcher/labels/labels.h"
#include "launcher/labels/network.h"
#include "runtime/base/nearest_name.h"
#include "runtime/base/status.h"

namespace muster {

absl::StatusOr<ClusterSource> ReadCluster(const std::string& flag, const std::string& word) {
  TopologyFileOptions options;
  options.files = {word};
  MUSTER_ASSIGN_OR_RETURN(const std::vector<NetworkFile> files, ReadTopologyFiles(flag, options));
  const std::string& path = files[0].file.path;
  if (absl::StripAsciiWhitespace(files[0].text).empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ":1:1: the file is empty; a cluster has at least nodes: [node-a, node-b]"));
  }
  MUSTER_ASSIGN_OR_RETURN(std::vector<NetworkSource> sources, ReadNetworkFiles(files, nullptr, ""));
  ClusterSource source;
  if (sources[0].is_cluster) {
    source.cluster = std::move(sources[0].cluster);
    return source;
  }
  LabelSet& labels = sources[0].labels;
  if (labels.nodes.empty())
    return absl::InvalidArgumentError(absl::StrCat(path, ": says of no node where it stands in the network"));
  MUSTER_ASSIGN_OR_RETURN(source.cluster, ClusterOfLabels(labels));
  if (const absl::Status checked = CheckCluster(source.cluster); !checked.ok()) return Annotate(checked, path);
  source.notes = std::move(labels.notes);
  return source;
}

absl::StatusOr<Cluster> ChooseNodes(const Cluster& cluster, const std::string& flag, const std::vector<std::string>& names) {
  std::vector<std::string> known, chosen;
  for (const Cluster::Node& node : cluster.nodes) known.push_back(node.name);
  const std::set<std::string> all(known.begin(), known.end());
  std::set<std::string> met;
  for (const std::string& name : names) {
    if (!all.contains(name)) {
      const std::string nearest = NearestName(name, known);
      return absl::NotFoundError(absl::StrCat(flag, ": the cluster has no node ", name,
                                              nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?")));
    }
    if (met.insert(name).second) chosen.push_back(name);
  }
  return SubsetOf(cluster, chosen);
}

}  // namespace muster
