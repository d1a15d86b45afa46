#include "launcher/planner/plan_text.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace muster {
namespace {

size_t At(int index) { return static_cast<size_t>(index); }

// A name as what stands before its last run of digits, these, and the number.
struct Numbered {
  std::string before, after;
  std::string digits;
  int64_t number = -1;  // -1: the name has none
};

Numbered Split(const std::string& name) {
  size_t end = name.size();
  while (end > 0 && !absl::ascii_isdigit(static_cast<unsigned char>(name[end - 1]))) --end;
  size_t begin = end;
  while (begin > 0 && absl::ascii_isdigit(static_cast<unsigned char>(name[begin - 1]))) --begin;
  Numbered split = {name.substr(0, begin), name.substr(end), name.substr(begin, end - begin), -1};
  if (split.digits.size() <= 9 && !absl::SimpleAtoi(split.digits, &split.number)) split.number = -1;
  return split;
}

bool Follows(const Numbered& a, const Numbered& b) {
  const bool numbers = a.number >= 0 && b.number == a.number + 1 && a.before == b.before && a.after == b.after;
  // n9, n10 is a range n[9-10]; n09, n10 one of width two; n9, n010 none.
  const bool padded = a.digits.size() > 1 && a.digits[0] == '0';
  return numbers && (padded ? b.digits.size() == a.digits.size() : b.digits[0] != '0');
}

class RingList {
 public:
  RingList(const Cluster& cluster, const GroupTree& tree, const Plan& plan) : cluster_(cluster), tree_(tree), plan_(plan) {}

  std::string Take() {
    if (tree_.levels() == 0) {
      Line(0, "", 0, plan_.order.nodes.size());
    } else {
      Walk(0, plan_.order.nodes.size(), 0);
    }
    if (left_out_ > 0) absl::StrAppend(&text_, "  ... and ", left_out_, " lines more; --json has all\n");
    return std::move(text_);
  }

 private:
  void Walk(size_t begin, size_t end, int level) {
    const std::vector<int>& order = plan_.order.nodes;
    for (size_t start = begin; start < end;) {
      size_t stop = start + 1;
      while (stop < end && tree_.GroupOf(order[stop], level) == tree_.GroupOf(order[start], level)) ++stop;
      const std::string& label = tree_.groups()[At(tree_.GroupOf(order[start], level))].label;
      const std::string& name = cluster_.levels[At(level)].name;
      Line(level, label.empty() ? absl::StrCat("without a ", name) : absl::StrCat(name, " ", label), start, stop);
      if (level + 1 < tree_.levels()) Walk(start, stop, level + 1);
      start = stop;
    }
  }

  void Line(int level, const std::string& group, size_t begin, size_t end) {
    if (lines_ >= kPlanLinesMax) {
      ++left_out_;
      return;
    }
    ++lines_;
    const std::vector<int>& order = plan_.order.nodes;
    const int first = plan_.first_rank[At(order[begin])];
    const int last = (end < order.size() ? plan_.first_rank[At(order[end])] : static_cast<int>(plan_.ranks.size())) - 1;
    std::string line(At(2 * level + 2), ' ');
    absl::StrAppend(&line, group);
    if (!group.empty()) line.resize(std::max<size_t>(line.size() + 2, 30), ' ');
    absl::StrAppend(&line, first == last ? absl::StrCat("rank ", first) : absl::StrCat("ranks ", first, "-", last));
    if (level + 1 >= tree_.levels()) {
      line.resize(std::max<size_t>(line.size() + 2, 50), ' ');
      std::vector<std::string> names;
      for (size_t i = begin; i < end; ++i) names.push_back(cluster_.nodes[At(order[i])].name);
      absl::StrAppend(&line, InOrderText(names, 70));
    }
    absl::StrAppend(&text_, line, "\n");
  }

  const Cluster& cluster_;
  const GroupTree& tree_;
  const Plan& plan_;
  std::string text_;
  size_t lines_ = 0;
  size_t left_out_ = 0;
};

// "32", "4065.2".
std::string CountText(double count) {
  return count == std::floor(count) ? absl::StrFormat("%.0f", count) : absl::StrFormat("%.1f", count);
}

}  // namespace

std::string BusText(double bytes_per_second) {
  static constexpr const char* kUnits[] = {"B/s", "kB/s", "MB/s", "GB/s", "TB/s"};
  size_t unit = 0;
  double value = bytes_per_second;
  while (value >= 1000 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return absl::StrFormat("%.*f %s", value >= 100 ? 0 : value >= 10 ? 1 : 2, value, kUnits[unit]);
}

std::string InOrderText(const std::vector<std::string>& names, size_t bytes_max) {
  std::string text;
  for (size_t i = 0; i < names.size();) {
    const Numbered first = Split(names[i]);
    Numbered last = first;
    size_t end = i + 1;
    for (; end < names.size(); ++end) {
      const Numbered next = Split(names[end]);
      if (!Follows(last, next)) break;
      last = next;
    }
    const std::string part =
        end == i + 1 ? names[i] : absl::StrCat(first.before, "[", first.digits, "-", last.digits, "]", first.after);
    if (!text.empty() && text.size() + part.size() > bytes_max) return absl::StrCat(text, " and ", names.size() - i, " more");
    absl::StrAppend(&text, text.empty() ? "" : ",", part);
    i = end;
  }
  return text;
}

std::string QualityText(const Cluster& cluster, const GroupTree& tree, const std::vector<NamedQuality>& orders) {
  constexpr size_t kFirst = 30;
  std::string head = "a ring crosses";
  head.resize(kFirst, ' ');
  absl::StrAppendFormat(&head, "%8s", "groups");
  for (const NamedQuality& order : orders) absl::StrAppendFormat(&head, "%14s", order.name);
  std::string text;
  if (tree.levels() > 0) absl::StrAppend(&text, head, "\n");
  for (int level = 0; level < tree.levels(); ++level) {
    std::string line = "  " + cluster.levels[At(level)].name;
    line.resize(std::max(line.size() + 1, kFirst), ' ');
    absl::StrAppendFormat(&line, "%8d", tree.GroupsOn(level));
    for (const NamedQuality& order : orders)
      absl::StrAppendFormat(&line, "%14s", CountText(order.quality.crossings[At(level)]));
    absl::StrAppend(&text, line, "\n");
    line = "    most that leave one";
    line.resize(kFirst + 8, ' ');
    for (const NamedQuality& order : orders) absl::StrAppendFormat(&line, "%14s", CountText(order.quality.worst[At(level)]));
    absl::StrAppend(&text, line, "\n");
  }
  if (orders.front().quality.bus_bytes_per_second == 0) {
    absl::StrAppend(&text, "bus bandwidth: the cluster does not say how fast its NICs and uplinks are (speed: and uplink:)\n");
    return text;
  }
  std::string line = "bus bandwidth, large messages";
  line.resize(kFirst + 8, ' ');
  for (const NamedQuality& order : orders) absl::StrAppendFormat(&line, "%14s", BusText(order.quality.bus_bytes_per_second));
  absl::StrAppend(&text, line, "\n");
  for (const NamedQuality& order : orders) {
    const OrderQuality& quality = order.quality;
    absl::StrAppend(&text, "  ", order.name, ": ");
    if (&order != &orders.front()) {
      const double times = orders.front().quality.bus_bytes_per_second / quality.bus_bytes_per_second;
      absl::StrAppend(&text, times >= 1.005 || times <= 0.995
                                 ? absl::StrFormat("the planned order is %.2f times as fast", times)
                                 : "as fast as the planned order");
    }
    // A mean is held up by no one link.
    if (!quality.slowest_link.empty()) {
      absl::StrAppend(&text, &order != &orders.front() ? "; " : "", "limited by the ", quality.slowest_link, ", which ",
                      quality.slowest_link_edges, quality.slowest_link_edges == 1 ? " step passes" : " steps pass");
    }
    absl::StrAppend(&text, "\n");
  }
  return text;
}

std::string RingText(const Cluster& cluster, const GroupTree& tree, const Plan& plan) {
  return RingList(cluster, tree, plan).Take();
}

}  // namespace muster
