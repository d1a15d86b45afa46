// topology.yaml of Slurm 25.05 and newer.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launcher/hosts/host_name.h"
#include "launcher/hosts/slurm_allocation.h"
#include "launcher/labels/slurm_labels.h"
#include "launcher/labels/slurm_tree.h"
#include "launcher/yaml/yaml_reader.h"
#include "runtime/base/nearest_name.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

class YamlTopologies {
 public:
  explicit YamlTopologies(const std::string& file) : file_(file) {}

  absl::StatusOr<LabelSet> Read(const YamlNode& root, const std::string& name) const {
    if (root.kind != YamlNode::Kind::kList || root.items.empty()) {
      return Wrong(root, "the file is a list of topologies: - topology: NAME, then tree:, block: or flat: true");
    }
    const YamlNode* chosen = nullptr;
    std::vector<std::string> names;
    for (const YamlNode& item : root.items) {
      MUSTER_RETURN_IF_ERROR(CheckKeys(item, {"topology", "cluster_default", "tree", "block", "flat", "torus3d"}));
      MUSTER_ASSIGN_OR_RETURN(const YamlNode* const own_name, Required(item, "topology"));
      names.push_back(own_name->text);
      const YamlNode* is_default = Find(item, "cluster_default");
      const bool wanted = name.empty() ? is_default != nullptr && is_default->text == "true" : own_name->text == name;
      if (wanted && chosen == nullptr) chosen = &item;
    }
    if (chosen == nullptr && !name.empty()) {
      return Wrong(root, absl::StrCat("there is no topology ", Shown(name), "; there are ", absl::StrJoin(names, ", ")));
    }
    if (chosen == nullptr) chosen = &root.items[0];
    const std::string source = absl::StrCat(file_, " (", Find(*chosen, "topology")->text, ")");
    if (const YamlNode* tree = Find(*chosen, "tree"); tree != nullptr) return ReadTree(source, *tree);
    if (const YamlNode* block = Find(*chosen, "block"); block != nullptr) return ReadBlocks(source, *block);
    LabelSet flat;
    flat.source = source;
    flat.notes.push_back(absl::StrCat(source, " says of no node where it stands: nodes keep their order"));
    return flat;
  }

 private:
  absl::Status Wrong(const YamlNode& node, absl::string_view what) const {
    return absl::InvalidArgumentError(OneLine(absl::StrCat(file_, ":", node.line, ":", node.column, ": ", what)));
  }
  std::string Place(const YamlNode& node) const { return absl::StrCat(file_, ":", node.line); }

  static const YamlNode* Find(const YamlNode& map, absl::string_view key) {
    for (const auto& [name, value] : map.pairs) {
      if (name.text == key) return &value;
    }
    return nullptr;
  }

  absl::Status CheckKeys(const YamlNode& map, const std::vector<std::string>& keys) const {
    if (map.kind != YamlNode::Kind::kMap) return Wrong(map, absl::StrCat("this is a section with ", absl::StrJoin(keys, ", ")));
    for (const auto& [key, value] : map.pairs) {
      if (std::find(keys.begin(), keys.end(), key.text) != keys.end()) continue;
      const std::string nearest = NearestName(key.text, keys);
      return Wrong(key, absl::StrCat(Shown(key.text), ": there is no such field; ",
                                     nearest.empty() ? absl::StrCat("here stand ", absl::StrJoin(keys, ", "))
                                                     : absl::StrCat("did you mean ", nearest, "?")));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<const YamlNode*> Required(const YamlNode& map, const char* key) const {
    const YamlNode* value = Find(map, key);
    if (value == nullptr || value->kind != YamlNode::Kind::kScalar || value->text.empty()) {
      return Wrong(value == nullptr ? map : *value, absl::StrCat(key, ": NAME is needed here"));
    }
    return value;
  }

  absl::StatusOr<std::vector<std::string>> Names(const YamlNode& map, const char* key) const {
    const YamlNode* value = Find(map, key);
    if (value == nullptr) return std::vector<std::string>();
    if (value->kind != YamlNode::Kind::kScalar)
      return Wrong(*value, absl::StrCat(key, " is a list as node[1-4],login, in one word"));
    auto names = ParseSlurmNodeList(value->text);
    if (!names.ok()) return Wrong(*value, absl::StrCat(key, ": ", names.status().message()));
    return names;
  }

  absl::StatusOr<LabelSet> ReadTree(const std::string& source, const YamlNode& tree) const {
    MUSTER_RETURN_IF_ERROR(CheckKeys(tree, {"switches"}));
    const YamlNode* list = Find(tree, "switches");
    if (list == nullptr || list->kind != YamlNode::Kind::kList) return Wrong(tree, "tree has a list of switches");
    std::vector<SlurmSwitch> switches;
    for (const YamlNode& item : list->items) {
      MUSTER_RETURN_IF_ERROR(CheckKeys(item, {"switch", "children", "nodes"}));
      MUSTER_ASSIGN_OR_RETURN(const YamlNode* const name, Required(item, "switch"));
      SlurmSwitch& one = switches.emplace_back(SlurmSwitch{name->text, Place(item), {}, {}});
      MUSTER_ASSIGN_OR_RETURN(one.switches, Names(item, "children"));
      MUSTER_ASSIGN_OR_RETURN(one.nodes, Names(item, "nodes"));
    }
    return LabelsOfSwitches(source, switches);
  }

  absl::StatusOr<LabelSet> ReadBlocks(const std::string& source, const YamlNode& block) const {
    MUSTER_RETURN_IF_ERROR(CheckKeys(block, {"block_sizes", "blocks"}));
    const YamlNode* list = Find(block, "blocks");
    if (list == nullptr || list->kind != YamlNode::Kind::kList) return Wrong(block, "block has a list of blocks");
    std::vector<int64_t> sizes;
    const YamlNode* size_list = Find(block, "block_sizes");
    for (size_t i = 0; size_list != nullptr && i < size_list->items.size(); ++i) {
      int64_t size = 0;
      if (!absl::SimpleAtoi(size_list->items[i].text, &size) || size < 1 || size > static_cast<int64_t>(kLabelledNodesMax)) {
        return Wrong(size_list->items[i], "block_sizes is a list of numbers of nodes, such as [4, 16]");
      }
      sizes.push_back(size);
    }
    std::vector<SlurmBlock> blocks;
    for (const YamlNode& item : list->items) {
      MUSTER_RETURN_IF_ERROR(CheckKeys(item, {"block", "nodes"}));
      MUSTER_ASSIGN_OR_RETURN(const YamlNode* const name, Required(item, "block"));
      SlurmBlock& one = blocks.emplace_back(SlurmBlock{name->text, Place(item), {}});
      MUSTER_ASSIGN_OR_RETURN(one.nodes, Names(item, "nodes"));
    }
    return LabelsOfBlocks(source, blocks, sizes, size_list == nullptr ? Place(block) : Place(*size_list));
  }

  const std::string& file_;
};

}  // namespace

absl::StatusOr<LabelSet> ReadSlurmTopologyYaml(const std::string& file, absl::string_view text, const std::string& name) {
  MUSTER_ASSIGN_OR_RETURN(const YamlNode root, ReadYaml(file, text));
  return YamlTopologies(file).Read(root, name);
}

}  // namespace muster
