#include "launcher/topology/cluster_picture.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "launcher/topology/group_tree.h"
#include "launcher/topology/natural_order.h"
#include "launcher/topology/speed_text.h"

namespace muster {
namespace {

std::string CountText(size_t count, absl::string_view thing) { return absl::StrCat(count, " ", thing, count == 1 ? "" : "s"); }

std::string UplinkText(double bytes_per_second) {
  return bytes_per_second > 0 ? absl::StrCat(", uplink ", BitsText(bytes_per_second)) : "";
}

std::string DevicesText(const Cluster& cluster, const std::vector<int>& nodes) {
  if (nodes.empty()) return "";
  const auto at = [&](int node) -> const Cluster::Node& { return cluster.nodes[static_cast<size_t>(node)]; };
  const size_t gpus = at(nodes[0]).gpus.size(), nics = at(nodes[0]).nics.size();
  for (const int node : nodes) {
    if (at(node).gpus.size() != gpus || at(node).nics.size() != nics) return "";
  }
  std::string text;
  if (gpus > 0) absl::StrAppend(&text, ", ", CountText(gpus, "GPU"));
  if (nics > 0) absl::StrAppend(&text, ", ", CountText(nics, "NIC"));
  return text.empty() || nodes.size() == 1 ? text : text + " each";
}

class TreeText {
 public:
  explicit TreeText(const Cluster& cluster) : cluster_(cluster), tree_(cluster) {}

  std::string Write() {
    AddGroup(0, 0);
    size_t width = 0;
    for (const Line& line : lines_) {
      if (!line.tail.empty()) width = std::max(width, line.head.size());
    }
    std::string text;
    for (Line& line : lines_) {
      if (!line.tail.empty()) line.head.resize(width + 2, ' ');
      absl::StrAppend(&text, line.head, line.tail, "\n");
    }
    return text;
  }

 private:
  struct Line {
    std::string head, tail;
  };

  void AddGroup(int number, size_t indent) {
    const GroupTree::Group& group = tree_.groups()[static_cast<size_t>(number)];
    for (const int child : group.children) {
      const GroupTree::Group& part = tree_.groups()[static_cast<size_t>(child)];
      if (part.label.empty() && !part.children.empty() && part.children.size() == 1) {
        AddGroup(child, indent);  // what is below says it
        continue;
      }
      const std::string name = part.label.empty() ? "without a " + cluster_.levels[static_cast<size_t>(part.level)].name
                                                  : absl::StrCat(cluster_.levels[static_cast<size_t>(part.level)].name, " ",
                                                                 absl::Utf8SafeCHexEscape(part.label));
      lines_.push_back(
          {std::string(indent, ' ') + name,
           absl::StrCat(CountText(static_cast<size_t>(part.size), "node"),
                        part.label.empty() ? "" : UplinkText(UplinkOfGroup(cluster_, tree_.Labels(child))),
                        part.children.empty() ? absl::StrCat(DevicesText(cluster_, part.nodes), "  ", Names(part)) : "")});
      AddGroup(child, indent + 2);
    }
    if (number == 0 && group.children.empty()) {
      lines_.push_back({absl::StrCat(CountText(static_cast<size_t>(group.size), "node"), DevicesText(cluster_, group.nodes),
                                     ": ", Names(group)),
                        ""});
    }
  }

  std::string Names(const GroupTree::Group& group) const {
    std::vector<std::string> names;
    for (const int node : group.nodes) names.push_back(cluster_.nodes[static_cast<size_t>(node)].name);
    return RangesText(std::move(names));
  }

  const Cluster& cluster_;
  const GroupTree tree_;
  std::vector<Line> lines_;
};

std::string PrefixOf(const std::string& name, std::string* digits) {
  size_t end = name.size();
  while (end > 0 && absl::ascii_isdigit(static_cast<unsigned char>(name[end - 1])) && name.size() - end < 9) --end;
  *digits = name.substr(end);
  return name.substr(0, end);
}

}  // namespace

double UplinkOfGroup(const Cluster& cluster, const std::vector<std::string>& labels) {
  for (const Cluster::Uplink& uplink : cluster.uplinks) {
    if (uplink.group == labels) return uplink.bytes_per_second;
  }
  return labels.empty() ? 0 : cluster.levels[labels.size() - 1].uplink_bytes_per_second;
}

std::string RangesText(std::vector<std::string> names, size_t bytes_max) {
  std::sort(names.begin(), names.end(), NaturalLess);
  std::string text;
  for (size_t i = 0; i < names.size();) {
    std::string digits;
    const std::string prefix = PrefixOf(names[i], &digits);
    // Names of the same letters and the same number of digits, whose numbers are written in one pair of brackets.
    std::vector<std::pair<std::string, std::string>> ranges;
    size_t next = i;
    for (; next < names.size() && !digits.empty(); ++next) {
      std::string own;
      if (PrefixOf(names[next], &own) != prefix) break;
      int64_t number = 0, last = 0;
      if (!absl::SimpleAtoi(own, &number)) break;
      const bool follows = !ranges.empty() && absl::SimpleAtoi(ranges.back().second, &last) && number == last + 1 &&
                           (own.size() == ranges.back().second.size() || (own[0] != '0' && ranges.back().second[0] != '0'));
      if (follows) {
        ranges.back().second = own;
      } else {
        ranges.emplace_back(own, own);
      }
    }
    absl::StrAppend(&text, text.empty() ? "" : ",");
    if (next <= i + 1) {
      text += absl::Utf8SafeCHexEscape(names[i]);
      next = i + 1;
    } else {
      absl::StrAppend(&text, absl::Utf8SafeCHexEscape(prefix), "[",
                      absl::StrJoin(ranges, ",",
                                    [](std::string* out, const auto& range) {
                                      absl::StrAppend(out, range.first, range.first == range.second ? "" : "-",
                                                      range.first == range.second ? "" : range.second);
                                    }),
                      "]");
    }
    i = next;
  }
  if (text.size() > bytes_max) text = absl::StrCat(text.substr(0, bytes_max), "...");
  return text;
}

std::string ClusterTree(const Cluster& cluster) { return TreeText(cluster).Write(); }

}  // namespace muster
