#include "launcher/labels/slurm_tree.h"

#include <algorithm>
#include <functional>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

absl::Status Wrong(const std::string& place, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(place, ": ", what));
}

class Tree {
 public:
  Tree(const std::string& source, const std::vector<SlurmSwitch>& switches) : switches_(switches) { set_.source = source; }

  absl::StatusOr<LabelSet> Label() {
    MUSTER_RETURN_IF_ERROR(Connect());
    MUSTER_RETURN_IF_ERROR(RefuseCircles());
    for (size_t i = 0; i < switches_.size(); ++i) {
      MUSTER_RETURN_IF_ERROR(PlaceNodes(i));
    }
    return std::move(set_);
  }

 private:
  static constexpr size_t kNone = ~size_t{0};

  absl::Status Connect() {
    for (size_t i = 0; i < switches_.size(); ++i) {
      const auto [known, is_new] = index_.emplace(switches_[i].name, i);
      if (!is_new) {
        return Wrong(switches_[i].place, absl::StrCat("switch ", switches_[i].name, " is defined twice, first at ",
                                                      switches_[known->second].place, "; leave one out"));
      }
    }
    parent_.assign(switches_.size(), kNone);
    for (size_t i = 0; i < switches_.size(); ++i) {
      const SlurmSwitch& above = switches_[i];
      if (above.switches.empty() && above.nodes.empty()) {
        set_.notes.push_back(
            absl::StrCat(above.place, ": switch ", above.name, " has neither nodes nor switches, and is left out"));
      }
      for (const std::string& name : above.switches) {
        const auto below = index_.find(name);
        if (below == index_.end()) {
          set_.notes.push_back(
              absl::StrCat(above.place, ": switch ", name, " below ", above.name, " is defined nowhere, and is left out"));
        } else if (parent_[below->second] != kNone && parent_[below->second] != i) {
          set_.notes.push_back(absl::StrCat(above.place, ": switch ", name, " hangs below ",
                                            switches_[parent_[below->second]].name, " and below ", above.name, "; ",
                                            switches_[parent_[below->second]].name, " is taken"));
        } else {
          parent_[below->second] = i;
        }
      }
    }
    return absl::OkStatus();
  }

  absl::Status RefuseCircles() const {
    for (size_t i = 0; i < switches_.size(); ++i) {
      size_t above = parent_[i];
      for (size_t steps = 0; above != kNone; ++steps, above = parent_[above]) {
        if (above == i || steps > switches_.size()) {
          return Wrong(switches_[i].place, absl::StrCat("switch ", switches_[i].name,
                                                        " hangs below itself; one of the switches above it must not name it"));
        }
        if (steps + 2 > kLabelDepthMax) {
          return Wrong(switches_[i].place, absl::StrCat("there are more than ", kLabelDepthMax, " switches above each other"));
        }
      }
    }
    return absl::OkStatus();
  }

  absl::Status PlaceNodes(size_t leaf) {
    std::vector<size_t> above;
    for (size_t i = leaf; i != kNone; i = parent_[i]) above.push_back(i);
    std::vector<muster::Label> path;
    for (size_t height = above.size(); height-- > 0;) path.push_back({SwitchLevel(height), switches_[above[height]].name});
    for (const std::string& node : switches_[leaf].nodes) {
      const auto [known, is_new] = leaf_of_.emplace(node, leaf);
      if (is_new) {
        if (set_.nodes.size() >= kLabelledNodesMax) {
          return Wrong(switches_[leaf].place, absl::StrCat("there are more than ", kLabelledNodesMax, " nodes"));
        }
        set_.nodes.push_back({node, path});
      } else if (known->second != leaf) {
        set_.notes.push_back(absl::StrCat(switches_[leaf].place, ": node ", node, " hangs on switch ",
                                          switches_[known->second].name, " (", switches_[known->second].place, ") and on ",
                                          switches_[leaf].name, "; ", switches_[known->second].name, " is taken"));
      }
    }
    return absl::OkStatus();
  }

  const std::vector<SlurmSwitch>& switches_;
  LabelSet set_;
  std::map<std::string, size_t> index_;
  std::vector<size_t> parent_;
  std::map<std::string, size_t> leaf_of_;
};

}  // namespace

std::string SwitchLevel(size_t height) { return height == 0 ? "leaf" : height == 1 ? "spine" : absl::StrCat("tier-", height); }

absl::StatusOr<LabelSet> LabelsOfSwitches(const std::string& source, const std::vector<SlurmSwitch>& switches) {
  return Tree(source, switches).Label();
}

absl::StatusOr<LabelSet> LabelsOfBlocks(const std::string& source, const std::vector<SlurmBlock>& blocks,
                                        const std::vector<int64_t>& sizes, const std::string& sizes_place) {
  for (size_t i = 1; i < sizes.size(); ++i) {
    if (sizes[i] <= sizes[i - 1] || sizes[i] % sizes[i - 1] != 0) {
      return Wrong(sizes_place, absl::StrCat("block size ", sizes[i], " is no multiple of ", sizes[i - 1],
                                             "; each size is 2, 4, 8 ... times the one before"));
    }
  }
  if (sizes.size() > kLabelDepthMax) {
    return Wrong(sizes_place,
                 absl::StrCat("there are ", sizes.size(), " sizes of blocks; ", kLabelDepthMax, " at most are read"));
  }
  LabelSet set;
  set.source = source;
  std::map<std::string, size_t> block_of_name, block_of_node;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const SlurmBlock& block = blocks[i];
    const auto [named, is_new_name] = block_of_name.emplace(block.name, i);
    if (!is_new_name) {
      return Wrong(block.place, absl::StrCat("block ", block.name, " is defined twice, first at ", blocks[named->second].place,
                                             "; leave one out"));
    }
    std::vector<Label> path;
    for (size_t level = sizes.size(); level-- > 1;) {
      const size_t run = static_cast<size_t>(sizes[level] / sizes[0]);
      path.push_back({absl::StrCat("blocks-of-", sizes[level]), blocks[i - i % run].name});
    }
    path.push_back({"block", block.name});
    if (block.nodes.empty()) {
      set.notes.push_back(absl::StrCat(block.place, ": block ", block.name, " has no nodes, and is left out"));
    }
    for (const std::string& node : block.nodes) {
      const auto [known, is_new] = block_of_node.emplace(node, i);
      if (!is_new && known->second != i) {
        return Wrong(block.place, absl::StrCat("node ", node, " is in block ", blocks[known->second].name, " (",
                                               blocks[known->second].place, ") and in ", block.name, "; leave one out"));
      }
      if (set.nodes.size() >= kLabelledNodesMax) {
        return Wrong(block.place, absl::StrCat("there are more than ", kLabelledNodesMax, " nodes"));
      }
      if (is_new) set.nodes.push_back({node, path});
    }
  }
  return set;
}

}  // namespace muster
