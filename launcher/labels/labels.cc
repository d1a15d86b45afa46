#include "launcher/labels/labels.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace muster {
namespace {

std::string ShortName(absl::string_view node) { return std::string(node.substr(0, node.find('.'))); }

// The path's first `depth` labels as one key.
std::string KeyOf(const std::vector<Label>& path, size_t depth) {
  std::string key;
  for (size_t i = 0; i < std::min(depth, path.size()); ++i) absl::StrAppend(&key, path[i].level, "\x1f", path[i].value, "\x1e");
  return key;
}

std::string GroupName(const std::vector<Label>& path, size_t depth) {
  return absl::StrCat(path[depth - 1].level, " ", path[depth - 1].value);
}

}  // namespace

std::string PathText(const std::vector<Label>& path) {
  if (path.empty()) return "nowhere";
  return absl::StrJoin(path, ", ",
                       [](std::string* out, const Label& label) { absl::StrAppend(out, label.level, " ", label.value); });
}

std::string ShortList(const std::vector<std::string>& names) {
  constexpr size_t kShownMax = 4;
  if (names.size() <= kShownMax) return absl::StrJoin(names, ", ");
  return absl::StrCat(absl::StrJoin(names.begin(), names.begin() + kShownMax - 1, ", "), " and ", names.size() - kShownMax + 1,
                      " more");
}

LabelIndex::LabelIndex(const LabelSet& set) {
  for (const NodeLabels& node : set.nodes) {
    exact_.emplace(node.node, &node);
    const auto [known, is_new] = short_.emplace(ShortName(node.node), &node);
    if (!is_new) known->second = nullptr;
  }
}

const NodeLabels* LabelIndex::Find(absl::string_view node) const {
  if (const auto found = exact_.find(node); found != exact_.end()) return found->second;
  if (const size_t at = node.rfind('@'); at != absl::string_view::npos) return Find(node.substr(at + 1));
  const auto found = short_.find(ShortName(node));
  return found == short_.end() ? nullptr : found->second;
}

std::string Contradiction(const LabelSet& taken, const LabelSet& other, const std::vector<std::string>& nodes) {
  const LabelIndex taken_index(taken), other_index(other);
  struct Known {
    const std::string* name;
    const std::vector<Label>* taken;
    const std::vector<Label>* other;
  };
  std::vector<Known> known;
  std::map<std::string, std::vector<size_t>> groups;  // of the other: its narrowest parts
  for (const std::string& node : nodes) {
    const NodeLabels* one = taken_index.Find(node);
    const NodeLabels* two = other_index.Find(node);
    if (one == nullptr || two == nullptr || one->path.empty() || two->path.empty()) continue;
    groups[KeyOf(two->path, two->path.size())].push_back(known.size());
    known.push_back({&node, &one->path, &two->path});
  }
  // A group of the other contradicts a part of the taken tree if they share nodes and each has some that the other lacks.
  std::map<std::string, std::vector<size_t>> parts;
  for (size_t i = 0; i < known.size(); ++i) {
    for (size_t depth = 1; depth <= known[i].taken->size(); ++depth) parts[KeyOf(*known[i].taken, depth)].push_back(i);
  }
  for (const auto& [group_key, group] : groups) {
    const std::set<size_t> members(group.begin(), group.end());
    std::set<std::string> seen;
    for (const size_t shared : group) {
      const std::vector<Label>& path = *known[shared].taken;
      for (size_t depth = path.size(); depth >= 1; --depth) {
        const std::string key = KeyOf(path, depth);
        if (!seen.insert(key).second) continue;
        const std::vector<size_t>& part = parts[key];
        const auto outside = std::find_if(part.begin(), part.end(), [&](size_t i) { return !members.contains(i); });
        if (outside == part.end()) continue;
        const auto elsewhere = std::find_if(group.begin(), group.end(),
                                            [&](size_t i) { return !std::binary_search(part.begin(), part.end(), i); });
        if (elsewhere == group.end()) continue;
        const std::vector<Label>& other_path = *known[shared].other;
        return absl::StrCat(taken.source, " puts ", *known[shared].name, " and ", *known[*outside].name, " together in ",
                            GroupName(path, depth), " without ", *known[*elsewhere].name, ", ", other.source, " puts ",
                            *known[shared].name, " and ", *known[*elsewhere].name, " together in ",
                            GroupName(other_path, other_path.size()), " without ", *known[*outside].name, "; ", taken.source,
                            " is taken");
      }
    }
  }
  return "";
}

LabelSet ChooseLabels(const std::vector<LabelSet>& by_trust, const std::vector<std::string>& nodes, size_t* taken_place) {
  LabelSet chosen;
  size_t taken = 0;
  for (; taken < by_trust.size(); ++taken) {
    const LabelIndex index(by_trust[taken]);
    const auto is_placed = [&](const std::string& node) {
      const NodeLabels* labels = index.Find(node);
      return labels != nullptr && !labels->path.empty();
    };
    if (!std::any_of(nodes.begin(), nodes.end(), is_placed)) {
      const bool knows_others = std::any_of(by_trust[taken].nodes.begin(), by_trust[taken].nodes.end(),
                                            [](const NodeLabels& node) { return !node.path.empty(); });
      if (knows_others && !nodes.empty()) {
        chosen.notes.push_back(absl::StrCat(by_trust[taken].source, " says of none of the nodes (", ShortList(nodes),
                                            ") where it stands, and is left out"));
      }
      continue;
    }
    chosen.source = by_trust[taken].source;
    chosen.notes.insert(chosen.notes.begin(), by_trust[taken].notes.begin(), by_trust[taken].notes.end());
    for (const std::string& node : nodes) {
      const NodeLabels* labels = index.Find(node);
      chosen.nodes.push_back({node, labels == nullptr ? std::vector<Label>() : labels->path});
    }
    break;
  }
  for (size_t other = taken + 1; other < by_trust.size(); ++other) {
    std::string sentence = Contradiction(by_trust[taken], by_trust[other], nodes);
    if (!sentence.empty()) chosen.notes.push_back(std::move(sentence));
  }
  if (taken_place != nullptr) *taken_place = taken;
  return chosen;
}

LabelSet LabelsOfCluster(const Cluster& cluster, const std::string& source) {
  LabelSet set;
  set.source = source;
  for (const Cluster::Node& node : cluster.nodes) {
    NodeLabels& labels = set.nodes.emplace_back();
    labels.node = node.name;
    for (size_t level = 0; level < node.labels.size(); ++level) {
      if (!node.labels[level].empty()) labels.path.push_back({cluster.levels[level].name, node.labels[level]});
    }
  }
  return set;
}

absl::StatusOr<Cluster> ClusterOfLabels(const LabelSet& set) {
  std::vector<std::string> levels;
  const auto at = [&levels](const std::string& level) {
    return static_cast<size_t>(std::find(levels.begin(), levels.end(), level) - levels.begin());
  };
  for (const NodeLabels& node : set.nodes) {
    size_t place = 0;  // where the next level of this path may stand at the earliest
    for (size_t i = 0; i < node.path.size(); ++i) {
      size_t known = at(node.path[i].level);
      if (known == levels.size()) {
        // Just above the next one that is known: a path that begins further in leaves room for wider ones before it.
        known = place;
        for (size_t below = i + 1; below < node.path.size(); ++below) {
          if (at(node.path[below].level) == levels.size()) continue;
          known = std::max(place, at(node.path[below].level));
          break;
        }
        levels.insert(levels.begin() + static_cast<std::ptrdiff_t>(known), node.path[i].level);
      }
      if (known < place) {
        return absl::InvalidArgumentError(absl::StrCat(set.source, ": node ", node.node, " is in ", PathText(node.path),
                                                       ", and elsewhere ", node.path[i].level,
                                                       " is wider than the level before it; write the levels in one order"));
      }
      place = known + 1;
    }
  }
  if (levels.size() > kLabelDepthMax) {
    return absl::InvalidArgumentError(absl::StrCat(set.source, " has ", levels.size(), " levels (", absl::StrJoin(levels, ", "),
                                                   "); ", kLabelDepthMax, " at most are planned with: leave the widest out"));
  }
  Cluster cluster;
  for (const std::string& level : levels) cluster.levels.push_back({.name = level});
  for (const NodeLabels& node : set.nodes) {
    Cluster::Node& one = cluster.nodes.emplace_back();
    one.name = node.node;
    one.labels.resize(levels.size());
    for (const Label& label : node.path) one.labels[at(label.level)] = label.value;
  }
  return cluster;
}

}  // namespace muster
