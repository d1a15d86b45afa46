#include "launcher/topology/group_tree.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/topology/natural_order.h"

namespace muster {
namespace {

size_t At(int index) { return static_cast<size_t>(index); }

// Labels in natural order, what is not known last.
bool LabelLess(const std::string& a, const std::string& b) {
  if (a.empty() != b.empty()) return b.empty();
  return NaturalLess(a, b);
}

void AppendCapped(std::vector<std::string> found, const std::string& more, std::vector<std::string>* doubts) {
  const size_t count = found.size();
  if (count > At(kDoubtsMax)) {
    found.resize(At(kDoubtsMax));
    found.push_back(absl::StrCat("and ", count - At(kDoubtsMax), " more ", more));
  }
  std::move(found.begin(), found.end(), std::back_inserter(*doubts));
}

}  // namespace

GroupTree::GroupTree(const Cluster& cluster)
    : levels_(static_cast<int>(cluster.levels.size())), group_counts_(cluster.levels.size()) {
  const size_t nodes = cluster.nodes.size();
  natural_order_.resize(nodes);
  std::iota(natural_order_.begin(), natural_order_.end(), 0);
  std::sort(natural_order_.begin(), natural_order_.end(), [&cluster](int a, int b) {
    const Cluster::Node &x = cluster.nodes[At(a)], &y = cluster.nodes[At(b)];
    for (size_t level = 0; level < x.labels.size(); ++level) {
      if (x.labels[level] != y.labels[level]) return LabelLess(x.labels[level], y.labels[level]);
    }
    return NaturalLess(x.name, y.name);
  });

  natural_place_.resize(nodes);
  group_of_.assign(nodes * At(levels_ + 1), 0);
  groups_.push_back({.size = static_cast<int>(nodes)});
  std::vector<int> open(At(levels_ + 1), 0);  // the group that is being filled, by level + 1
  for (size_t place = 0; place < nodes; ++place) {
    const int node = natural_order_[place];
    natural_place_[At(node)] = static_cast<int>(place);
    const std::vector<std::string>& labels = cluster.nodes[At(node)].labels;
    // Outermost level whose label is another than the last node's.
    int changed = 0;
    if (place > 0) {
      const std::vector<std::string>& before = cluster.nodes[At(natural_order_[place - 1])].labels;
      while (changed < levels_ && labels[At(changed)] == before[At(changed)]) ++changed;
    }
    for (int level = changed; level < levels_; ++level) {
      const int number = static_cast<int>(groups_.size()), parent = open[At(level)];
      groups_.push_back({.level = level, .parent = parent, .label = labels[At(level)], .first = static_cast<int>(place)});
      groups_[At(parent)].children.push_back(number);
      open[At(level + 1)] = number;
      ++group_counts_[At(level)];
    }
    for (int level = 0; level < levels_; ++level) {
      ++groups_[At(open[At(level + 1)])].size;
      group_of_[At(node) * At(levels_ + 1) + At(level + 1)] = open[At(level + 1)];
    }
    groups_[At(open[At(levels_)])].nodes.push_back(node);
  }
}

int GroupTree::SplitLevel(int a, int b) const {
  int level = 0;
  while (level < levels_ && GroupOf(a, level) == GroupOf(b, level)) ++level;
  return level;
}

std::vector<std::string> GroupTree::Labels(int group) const {
  std::vector<std::string> labels;
  for (int at = group; at > 0; at = groups_[At(at)].parent) labels.push_back(groups_[At(at)].label);
  std::reverse(labels.begin(), labels.end());
  return labels;
}

int GroupTree::Find(const std::vector<std::string>& labels) const {
  int at = 0;
  for (const std::string& label : labels) {
    const std::vector<int>& children = groups_[At(at)].children;
    const auto child = std::lower_bound(children.begin(), children.end(), label, [this](int one, const std::string& wanted) {
      return LabelLess(groups_[At(one)].label, wanted);
    });
    if (child == children.end() || groups_[At(*child)].label != label) return -1;
    at = *child;
  }
  return at;
}

std::vector<std::string> LabelDoubts(const Cluster& cluster, const GroupTree& tree) {
  std::vector<std::string> doubts;
  for (int level = 0; level < tree.levels(); ++level) {
    const std::string& level_name = cluster.levels[At(level)].name;
    // Groups are numbered in an order that does not depend on that of the nodes, so neither do these sentences.
    std::vector<std::string> unknown, repeated;
    std::map<std::string, int, bool (*)(const std::string&, const std::string&)> first(LabelLess);
    int unknown_nodes = 0;
    for (int number = 1; number < static_cast<int>(tree.groups().size()); ++number) {
      const GroupTree::Group& group = tree.groups()[At(number)];
      if (group.level != level) continue;
      if (group.label.empty()) {
        unknown_nodes += group.size;
        const std::vector<std::string> above = tree.Labels(group.parent);
        const std::string place = GroupText(cluster, above);
        unknown.push_back(absl::StrCat(group.size, group.size == 1 ? " node" : " nodes", place.empty() ? "" : " of ", place,
                                       ", such as ", cluster.nodes[At(tree.natural_order()[At(group.first)])].name,
                                       group.size == 1 ? ", has" : ", have", " no ", level_name, "; taken for one ", level_name,
                                       " of its own"));
        continue;
      }
      const auto [other, is_new] = first.emplace(group.label, number);
      if (is_new) continue;
      repeated.push_back(absl::StrCat(level_name, " ", group.label, " lies in ",
                                      GroupText(cluster, tree.Labels(tree.groups()[At(other->second)].parent)), " and in ",
                                      GroupText(cluster, tree.Labels(group.parent)), "; taken for two ", level_name,
                                      " groups of the same name"));
    }
    if (unknown_nodes == tree.nodes()) {
      doubts.push_back(absl::StrCat("no node has a ", level_name, "; nothing is known on that level"));
      continue;
    }
    const int known_groups = tree.GroupsOn(level) - static_cast<int>(unknown.size());
    AppendCapped(std::move(unknown), absl::StrCat("groups of nodes without a ", level_name), &doubts);
    // Where labels are counted anew in every group above, that is a way to name them and no mistake.
    const bool counted_anew = static_cast<int>(repeated.size()) * 2 >= known_groups;
    if (!counted_anew)
      AppendCapped(std::move(repeated), absl::StrCat("labels of ", level_name, " that lie in two groups"), &doubts);
  }
  return doubts;
}

}  // namespace muster
