#include "launcher/labels/kubernetes_labels.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "launcher/hosts/host_name.h"
#include "launcher/labels/json_text.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr char kHostNameKey[] = "kubernetes.io/hostname";

using Labels = std::map<std::string, std::string>;

struct LabelledNode {
  std::string name;
  Labels labels;
};

const std::vector<LabelKey>& CommonKeys() {
  static const auto& keys =
      *new std::vector<LabelKey>{{"topology.kubernetes.io/region", "region"}, {"topology.kubernetes.io/zone", "zone"}};
  return keys;
}

absl::Status Wrong(const std::string& place, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(place, ": ", what));
}

std::vector<Label> PathOf(const Labels& labels, const std::vector<LabelKey>& keys) {
  std::vector<Label> path;
  for (const LabelKey& key : keys) {
    const auto found = labels.find(key.key);
    if (found != labels.end() && !found->second.empty()) path.push_back({key.level, found->second});
  }
  return path;
}

// A level whose groups are whole unions of the groups of the level before it is the wider one: an NVLink domain of several racks.
void OrderLastLevels(const std::vector<LabelledNode>& nodes, std::vector<LabelKey>* keys) {
  if (keys->size() < 2) return;
  const std::string& wide = (*keys)[keys->size() - 2].key;
  const std::string& narrow = keys->back().key;
  std::map<std::string, std::set<std::string>> narrow_in_wide, wide_in_narrow;
  for (const LabelledNode& node : nodes) {
    const auto one = node.labels.find(wide), two = node.labels.find(narrow);
    if (one == node.labels.end() || two == node.labels.end()) continue;
    narrow_in_wide[one->second].insert(two->second);
    wide_in_narrow[two->second].insert(one->second);
  }
  const auto is_single = [](const auto& entry) { return entry.second.size() == 1; };
  const bool each_wide_has_one = std::all_of(narrow_in_wide.begin(), narrow_in_wide.end(), is_single);
  const bool some_narrow_has_many = !std::all_of(wide_in_narrow.begin(), wide_in_narrow.end(), is_single);
  if (each_wide_has_one && some_narrow_has_many) std::swap((*keys)[keys->size() - 2], (*keys)[keys->size() - 1]);
}

LabelSet SetOf(const std::string& file, const std::vector<LabelledNode>& nodes, const LabelDialect& dialect, bool with_common) {
  LabelSet set;
  set.source = absl::StrCat(file, " (", dialect.name, ")");
  // Keys that no node has are no levels.
  std::vector<LabelKey> keys;
  const auto has = [](const std::string& key) {
    return [&key](const LabelledNode& node) { return node.labels.contains(key); };
  };
  for (const LabelKey& key : dialect.keys) {
    if (std::any_of(nodes.begin(), nodes.end(), has(key.key))) keys.push_back(key);
  }
  OrderLastLevels(nodes, &keys);
  if (with_common) {
    std::vector<LabelKey> common;
    for (const LabelKey& key : CommonKeys()) {
      if (std::any_of(nodes.begin(), nodes.end(), has(key.key))) common.push_back(key);
    }
    keys.insert(keys.begin(), common.begin(), common.end());
  }
  if (keys.size() > kLabelDepthMax) keys.erase(keys.begin(), keys.end() - static_cast<std::ptrdiff_t>(kLabelDepthMax));
  for (const LabelledNode& node : nodes) set.nodes.push_back({node.name, PathOf(node.labels, keys)});
  return set;
}

// The number behind the prefix, else -1.
int TierOf(absl::string_view key, absl::string_view prefix) {
  int tier = -1;
  return absl::ConsumePrefix(&key, prefix) && key.size() <= 2 && absl::SimpleAtoi(key, &tier) ? tier : -1;
}

// topograph's tiers are as many as the fabric has: tier-0 is the nearest.
LabelDialect WithTiers(const std::vector<LabelledNode>& nodes, LabelDialect dialect) {
  constexpr char kPrefix[] = "fabric.topograph.run/tier-";
  std::set<int> tiers;
  for (const LabelledNode& node : nodes) {
    for (const auto& [key, value] : node.labels) tiers.insert(TierOf(key, kPrefix));
  }
  tiers.erase(-1);
  for (const int tier : tiers) {  // ascending: each wider one goes before
    dialect.keys.insert(dialect.keys.begin(), {absl::StrCat(kPrefix, tier), tier == 0   ? std::string("leaf")
                                                                            : tier == 1 ? std::string("spine")
                                                                                        : absl::StrCat("tier-", tier)});
  }
  return dialect;
}

std::vector<LabelSet> SetsOf(const std::string& file, const std::vector<LabelledNode>& nodes, const LabelDialect* own_keys) {
  std::vector<LabelSet> sets;
  const auto speaks = [&nodes](const LabelDialect& dialect) {
    for (const LabelledNode& node : nodes) {
      for (const LabelKey& key : dialect.keys) {
        if (node.labels.contains(key.key)) return true;
      }
    }
    return false;
  };
  if (own_keys != nullptr) {
    if (speaks(*own_keys)) sets.push_back(SetOf(file, nodes, *own_keys, false));
    return sets;
  }
  for (const LabelDialect& known : KnownDialects()) {
    const LabelDialect dialect = known.name == "topograph" ? WithTiers(nodes, known) : known;
    if (speaks(dialect)) sets.push_back(SetOf(file, nodes, dialect, true));
  }
  const LabelDialect zones{"Kubernetes", CommonKeys()};
  if (sets.empty() && speaks(zones)) sets.push_back(SetOf(file, nodes, zones, false));
  return sets;
}

absl::StatusOr<Labels> LabelsOf(const std::string& file, const std::string& node, const nlohmann::json& object) {
  Labels labels;
  if (object.is_null()) return labels;
  if (!object.is_object()) return Wrong(file, absl::StrCat("the labels of node ", Shown(node), " are no object of words"));
  for (const auto& [key, value] : object.items()) {
    if (!value.is_string()) {
      return Wrong(file, absl::StrCat("node ", Shown(node), ": the label ", Shown(key), " is no word in quotes"));
    }
    labels[key] = value.get<std::string>();
  }
  return labels;
}

absl::StatusOr<LabelledNode> ReadNode(const std::string& file, const nlohmann::json& object, size_t number) {
  const auto metadata = object.is_object() ? object.find("metadata") : object.end();
  if (!object.is_object() || metadata == object.end() || !metadata->is_object()) {
    return Wrong(file,
                 absl::StrCat("entry ", number, " of items has no metadata; make the file with: kubectl get nodes -o json"));
  }
  if (const auto kind = object.find("kind"); kind != object.end() && *kind != "Node") {
    return Wrong(file, absl::StrCat("entry ", number, " is a ", kind->is_string() ? Shown(kind->get<std::string>()) : "thing",
                                    ", not a Node; make the file with: kubectl get nodes -o json"));
  }
  LabelledNode node;
  if (const auto name = metadata->find("name"); name != metadata->end() && name->is_string())
    node.name = name->get<std::string>();
  if (node.name.empty()) return Wrong(file, absl::StrCat("entry ", number, " of items has no metadata.name"));
  const auto labels = metadata->find("labels");
  MUSTER_ASSIGN_OR_RETURN(node.labels, LabelsOf(file, node.name, labels == metadata->end() ? nlohmann::json() : *labels));
  return node;
}

}  // namespace

const std::vector<LabelDialect>& KnownDialects() {
  static const auto& dialects = *new std::vector<LabelDialect>{
      // Tiers are put before these as nodes have them.
      {"topograph", {{"accelerator.topograph.run/domain", "nvlink"}, {"accelerator.topograph.run/sub-domain", "nvlink-part"}}},
      {"topograph 0.2",
       {{"network.topology.nvidia.com/core", "core"},
        {"network.topology.nvidia.com/datacenter", "datacenter"},
        {"network.topology.nvidia.com/spine", "spine"},
        {"network.topology.nvidia.com/leaf", "leaf"},
        {"network.topology.nvidia.com/block", "block"},
        {"network.topology.nvidia.com/accelerator", "nvlink"}}},
      {"topograph 0.1",
       {{"network.topology.kubernetes.io/datacenter", "datacenter"},
        {"network.topology.kubernetes.io/spine", "spine"},
        {"network.topology.kubernetes.io/block", "block"},
        {"network.topology.kubernetes.io/accelerator", "nvlink"}}},
      {"network levels",
       {{"topology.kubernetes.io/network-level-3", "network-3"},
        {"topology.kubernetes.io/network-level-2", "network-2"},
        {"topology.kubernetes.io/network-level-1", "network-1"}}},
      // Layer 1 is the widest; the fourth exists in some networks only.
      {"AWS",
       {{"topology.k8s.aws/network-node-layer-1", "layer-1"},
        {"topology.k8s.aws/network-node-layer-2", "layer-2"},
        {"topology.k8s.aws/network-node-layer-3", "layer-3"},
        {"topology.k8s.aws/network-node-layer-4", "layer-4"},
        {"topology.k8s.aws/ultraserver-id", "ultraserver"}}},
      {"Google",
       {{"cloud.google.com/gce-topology-block", "block"},
        {"cloud.google.com/gce-topology-subblock", "subblock"},
        {"cloud.google.com/gce-topology-host", "host"}}},
      {"Oracle",
       {{"oci.oraclecloud.com/rdma.hpc_island_id", "island"},
        {"oci.oraclecloud.com/rdma.network_block_id", "network-block"},
        {"oci.oraclecloud.com/rdma.local_block_id", "local-block"}}},
      {"Oracle hosts",
       {{"oci.oraclecloud.com/host.hpc_island_id", "island"},
        {"oci.oraclecloud.com/host.network_block_id", "network-block"},
        {"oci.oraclecloud.com/host.rack_id", "rack"}}},
      {"Kueue", {{"cloud.provider.com/topology-block", "block"}, {"cloud.provider.com/topology-rack", "rack"}}},
      {"NVIDIA", {{"nvidia.com/gpu.clique", "nvlink"}}},
  };
  return dialects;
}

absl::StatusOr<LabelDialect> ParseLabelKeys(absl::string_view list) {
  LabelDialect dialect{"own keys", {}};
  std::set<std::string> levels;
  for (absl::string_view word : absl::StrSplit(list, ',')) {
    word = absl::StripAsciiWhitespace(word);
    const std::pair<absl::string_view, absl::string_view> halves = absl::StrSplit(word, absl::MaxSplits('=', 1));
    LabelKey key{std::string(halves.first), std::string(halves.second)};
    const auto is_bad = [](char c) { return !absl::ascii_isgraph(static_cast<unsigned char>(c)); };
    if (key.key.empty() || key.key.size() > 317 || std::any_of(word.begin(), word.end(), is_bad)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "\"", Shown(word),
          "\" is no key of a label; write keys with commas, the widest first: topology.kubernetes.io/zone,example.com/rack"));
    }
    if (key.level.empty()) key.level = key.key.substr(key.key.rfind('/') + 1);
    if (!levels.insert(key.level).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("two keys make a level ", Shown(key.level), "; name one of them: ", Shown(key.key), "=LEVEL"));
    }
    dialect.keys.push_back(std::move(key));
    if (dialect.keys.size() > kLabelDepthMax) {
      return absl::InvalidArgumentError(absl::StrCat("there are more than ", kLabelDepthMax, " keys; leave the widest out"));
    }
  }
  return dialect;
}

absl::StatusOr<std::vector<LabelSet>> ReadKubernetesNodes(const std::string& file, absl::string_view text,
                                                          const LabelDialect* own_keys) {
  MUSTER_ASSIGN_OR_RETURN(const nlohmann::json root, ParseJson(file, text));
  if (!root.is_object()) {
    return Wrong(absl::StrCat(file, ":1:1"), "the file is no object; make it with: kubectl get nodes -o json");
  }
  std::vector<LabelledNode> nodes;
  const auto items = root.find("items");
  if (items != root.end() && items->is_array()) {
    for (const nlohmann::json& item : *items) {
      MUSTER_ASSIGN_OR_RETURN(LabelledNode node, ReadNode(file, item, nodes.size() + 1));
      nodes.push_back(std::move(node));
      if (nodes.size() > kLabelledNodesMax)
        return Wrong(file, absl::StrCat("there are more than ", kLabelledNodesMax, " nodes"));
    }
  } else if (root.contains("metadata")) {
    MUSTER_ASSIGN_OR_RETURN(LabelledNode node, ReadNode(file, root, 1));
    nodes.push_back(std::move(node));
  } else {
    for (const auto& [name, labels] : root.items()) {
      MUSTER_ASSIGN_OR_RETURN(Labels read, LabelsOf(file, name, labels));
      nodes.push_back({name, std::move(read)});
    }
  }
  std::set<std::string> names;
  for (const LabelledNode& node : nodes) {
    if (!names.insert(node.name).second)
      return Wrong(file, absl::StrCat("node ", Shown(node.name), " comes twice; leave one out"));
  }
  return SetsOf(file, nodes, own_keys);
}

absl::StatusOr<std::vector<LabelSet>> ReadDownwardLabels(const std::string& file, absl::string_view text,
                                                         const std::string& node, const LabelDialect* own_keys) {
  LabelledNode one{node, {}};
  int number = 0;
  for (const absl::string_view piece : absl::StrSplit(text, '\n')) {
    ++number;
    const absl::string_view line = absl::StripAsciiWhitespace(piece);
    if (line.empty()) continue;
    const size_t equals = line.find("=\"");
    if (equals == absl::string_view::npos || equals == 0 || line.size() < equals + 3 || line.back() != '"') {
      return Wrong(absl::StrCat(file, ":", number),
                   absl::StrCat("\"", Shown(line), "\" is no label as the downward API writes it: KEY=\"VALUE\""));
    }
    std::string value;
    if (!absl::CUnescape(line.substr(equals + 2, line.size() - equals - 3), &value)) {
      return Wrong(absl::StrCat(file, ":", number), "the value cannot be read");
    }
    one.labels[std::string(line.substr(0, equals))] = std::move(value);
  }
  if (const auto name = one.labels.find(kHostNameKey); one.name.empty() && name != one.labels.end()) one.name = name->second;
  if (one.name.empty()) {
    return Wrong(file, absl::StrCat("whose labels these are is not said; add ", kHostNameKey, " to them"));
  }
  return SetsOf(file, {one}, own_keys);
}

}  // namespace muster
