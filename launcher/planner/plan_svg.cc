#include "launcher/planner/plan_svg.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace muster {
namespace {

size_t At(int index) { return static_cast<size_t>(index); }

constexpr double kPi = 3.14159265358979323846;
constexpr double kPanel = 560, kTop = 64, kRadius = 192, kMargin = 20;
constexpr double kArc = 9;         // width of a group's arc
constexpr double kArcGap = 4;      // between arcs of two levels
constexpr double kRingStep = 13;   // between rings, inwards
constexpr size_t kLabelsMax = 40;  // of one level; more would touch each other
constexpr size_t kLabelBytesMax = 14;

// Steps that leave a group, by how many levels they leave (one is the innermost): colour-blind safe. Source: Okabe and Ito, 2008.
constexpr const char* kStepColours[] = {"#9aa5b1", "#0072b2", "#d55e00", "#a00060"};
constexpr const char* kGroupColours[] = {"#56b4e9", "#009e73", "#e69f00", "#cc79a7",
                                         "#0072b2", "#d55e00", "#8c6d31", "#7570b3"};

// Control characters have no place in XML.
std::string Escaped(std::string text) {
  std::erase_if(text, [](char c) { return static_cast<unsigned char>(c) < 0x20; });
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

// As much of a name as there is room for.
std::string Label(std::string text) {
  if (text.size() > kLabelBytesMax) {
    size_t size = kLabelBytesMax - 1;
    while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) --size;
    text = absl::StrCat(text.substr(0, size), "\xe2\x80\xa6");
  }
  return Escaped(text);
}

struct Point {
  double x, y;
};

class Drawing {
 public:
  Drawing(const Cluster& cluster, const GroupTree& tree, const std::vector<RingPanel>& panels)
      : cluster_(cluster), tree_(tree), panels_(panels) {
    PlaceUnits(panels.front().rings.front());
  }

  std::string Take(const std::string& title) {
    size_t captions = 0;
    for (const RingPanel& panel : panels_) captions = std::max(captions, panel.captions.size());
    const double width = kPanel * static_cast<double>(panels_.size()),
                 height = kTop + kPanel + 20 * static_cast<double>(captions) + 46;
    text_ = absl::StrFormat(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "
        "font-family=\"'DejaVu Sans', Verdana, Helvetica, Arial, sans-serif\" font-size=\"13\" fill=\"#1f2933\">\n"
        "<title>%s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n"
        "<text x=\"%.0f\" y=\"34\" font-size=\"18\" font-weight=\"bold\">%s</text>\n",
        width, height, width, height, Escaped(title), kMargin, Escaped(title));
    for (size_t i = 0; i < panels_.size(); ++i) DrawPanel(panels_[i], kPanel * static_cast<double>(i));
    DrawLegend(height - 22);
    return absl::StrCat(text_, "</svg>\n");
  }

 private:
  // A dot on the circle is a node, or an innermost group where there are too many nodes.
  void PlaceUnits(const std::vector<int>& order) {
    unit_of_.assign(At(tree_.nodes()), 0);
    const bool nodes = order.size() <= kDrawnRingNodesMax || tree_.levels() == 0;
    for (size_t i = 0; i < order.size(); ++i) {
      const bool same = !nodes && i > 0 && tree_.SplitLevel(order[i - 1], order[i]) == tree_.levels();
      if (!same) units_.push_back(order[i]);
      unit_of_[At(order[i])] = static_cast<int>(units_.size()) - 1;
    }
  }

  double Angle(double place) const { return 2 * kPi * (place + 0.5) / static_cast<double>(units_.size()) - kPi / 2; }
  static Point On(Point centre, double radius, double angle) {
    return {centre.x + radius * std::cos(angle), centre.y + radius * std::sin(angle)};
  }
  double DotRadius() const { return std::clamp(kRadius * kPi / static_cast<double>(units_.size()) * 0.6, 1.2, 6.0); }

  void DrawPanel(const RingPanel& panel, double left) {
    const Point centre = {left + kPanel / 2, kTop + kPanel / 2};
    absl::StrAppendFormat(
        &text_, "<g>\n<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\" font-size=\"15\" font-weight=\"bold\">%s</text>\n",
        centre.x, kTop + 10, Escaped(panel.title));
    DrawLinks(centre);
    const size_t rings = std::min(panel.rings.size(), kDrawnRingsMax);
    for (size_t j = rings; j > 0; --j)
      DrawRing(panel.rings[j - 1], centre, kRadius - kRingStep * static_cast<double>(j - 1), rings > 1);
    for (int level = 0; level < tree_.levels(); ++level) DrawGroups(level, centre);
    DrawDots(centre);
    for (size_t i = 0; i < panel.captions.size(); ++i) {
      absl::StrAppendFormat(&text_, "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\">%s</text>\n", centre.x,
                            kTop + kPanel + 6 + 20 * static_cast<double>(i), Escaped(panel.captions[i]));
    }
    text_ += "</g>\n";
  }

  // By how many levels a step leaves: an index into kStepColours.
  int Left(int from, int to) const { return std::min(tree_.levels() - tree_.SplitLevel(from, to), 3); }

  void DrawRing(const std::vector<int>& ring, Point centre, double radius, bool several) {
    std::set<std::pair<int, int>> drawn;
    // Steps within a group first, so that those that leave one lie on top.
    std::string layers[4];
    for (size_t i = 0; i < ring.size() && ring.size() > 1; ++i) {
      const int from = ring[i], to = ring[(i + 1) % ring.size()];
      const int a = unit_of_[At(from)], b = unit_of_[At(to)];
      if (a == b || !drawn.emplace(a, b).second) continue;
      const int left = Left(from, to);
      const Point p = On(centre, radius, Angle(a)), q = On(centre, radius, Angle(b));
      const bool neighbours = std::abs(a - b) == 1 || std::abs(a - b) == static_cast<int>(units_.size()) - 1;
      const double thick = left == 0               ? 1.2
                           : neighbours || several ? 2.4
                                                   : std::clamp(200.0 / static_cast<double>(units_.size()), 0.5, 1.6);
      absl::StrAppendFormat(&layers[left], "<path d=\"M%.1f %.1fL%.1f %.1f\" stroke=\"%s\" stroke-width=\"%.1f\"/>\n", p.x, p.y,
                            q.x, q.y, kStepColours[left], thick);
    }
    text_ += "<g fill=\"none\" stroke-linecap=\"round\">\n";
    for (const std::string& layer : layers) text_ += layer;
    text_ += "</g>\n";
  }

  // Runs of units that share a group: [first, last].
  std::vector<std::pair<int, int>> Runs(int level) const {
    std::vector<std::pair<int, int>> runs;
    for (int i = 0; i < static_cast<int>(units_.size()); ++i) {
      if (i > 0 && tree_.GroupOf(units_[At(i)], level) == tree_.GroupOf(units_[At(i - 1)], level)) {
        runs.back().second = i;
      } else {
        runs.emplace_back(i, i);
      }
    }
    return runs;
  }

  double ArcRadius(int level) const { return kRadius + 10 + kArc / 2 + (kArc + kArcGap) * (tree_.levels() - 1 - level); }

  void DrawGroups(int level, Point centre) {
    const std::vector<std::pair<int, int>> runs = Runs(level);
    const double radius = ArcRadius(level);
    const bool named = NamedLevel() == level;
    const double gap = std::min(0.35 / static_cast<double>(units_.size()) * 2 * kPi * 0.5, 0.02);
    for (size_t i = 0; i < runs.size(); ++i) {
      const auto& [first, last] = runs[i];
      const int group = tree_.GroupOf(units_[At(first)], level);
      const std::string& label = tree_.groups()[At(group)].label;
      const double from = Angle(first - 0.5) + gap, to = Angle(last + 0.5) - gap;
      const Point p = On(centre, radius, from), q = On(centre, radius, to);
      absl::StrAppendFormat(&text_,
                            "<path d=\"M%.1f %.1fA%.1f %.1f 0 %d 1 %.1f %.1f\" fill=\"none\" stroke=\"%s\" "
                            "stroke-width=\"%.0f\"%s><title>%s</title></path>\n",
                            p.x, p.y, radius, radius, to - from > kPi ? 1 : 0, q.x, q.y,
                            label.empty() ? "#c3cad2" : kGroupColours[i % std::size(kGroupColours)], kArc,
                            level % 2 == 1 ? " opacity=\"0.75\"" : "", Escaped(GroupText(cluster_, tree_.Labels(group))));
      if (named) DrawName(label.empty() ? "?" : label, centre, ArcRadius(0) + kArc / 2 + 7, (from + to) / 2);
    }
  }

  // The innermost level whose names find room around the circle and mean something by themselves; -1: none.
  int NamedLevel() const {
    for (int level = tree_.levels() - 1; level >= 0; --level) {
      const std::vector<std::pair<int, int>> runs = Runs(level);
      std::set<std::string> names;
      for (const auto& [first, last] : runs) names.insert(tree_.groups()[At(tree_.GroupOf(units_[At(first)], level))].label);
      if (runs.size() <= kLabelsMax && names.size() == runs.size()) return level;
    }
    return -1;
  }

  void DrawName(const std::string& name, Point centre, double radius, double angle) {
    const Point p = On(centre, radius, angle);
    const bool right = std::cos(angle) >= 0;
    const double degrees = angle * 180 / kPi + (right ? 0 : 180);
    absl::StrAppendFormat(&text_,
                          "<text x=\"%.1f\" y=\"%.1f\" font-size=\"11\" text-anchor=\"%s\" dominant-baseline=\"central\" "
                          "transform=\"rotate(%.1f %.1f %.1f)\">%s</text>\n",
                          p.x, p.y, right ? "start" : "end", degrees, p.x, p.y, Label(name));
  }

  void DrawDots(Point centre) {
    text_ += "<g fill=\"#1f2933\">\n";
    for (int i = 0; i < static_cast<int>(units_.size()); ++i) {
      const Point p = On(centre, kRadius, Angle(i));
      absl::StrAppendFormat(&text_, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"><title>%s</title></circle>\n", p.x, p.y,
                            DotRadius(), Escaped(cluster_.nodes[At(units_[At(i)])].name));
    }
    text_ += "</g>\n";
  }

  // Direct links between groups, from the middle of one's arc to the other's.
  void DrawLinks(Point centre) {
    if (cluster_.links.empty()) return;
    absl::StrAppend(&text_, "<g fill=\"none\" stroke=\"#c3cad2\" stroke-dasharray=\"3 4\">\n");
    for (const Cluster::Link& link : cluster_.links) {
      const Point p = On(centre, kRadius, MiddleOf(tree_.Find(link.from))),
                  q = On(centre, kRadius, MiddleOf(tree_.Find(link.to)));
      absl::StrAppendFormat(&text_, "<path d=\"M%.1f %.1fL%.1f %.1f\"/>\n", p.x, p.y, q.x, q.y);
    }
    text_ += "</g>\n";
  }

  double MiddleOf(int group) const {
    const int level = tree_.groups()[At(group)].level;
    for (const auto& [first, last] : Runs(level)) {
      if (tree_.GroupOf(units_[At(first)], level) == group) return Angle((first + last) / 2.0);
    }
    return 0;
  }

  void DrawLegend(double y) {
    double x = kMargin;
    const auto entry = [&](const char* colour, const char* dashes, const std::string& text) {
      absl::StrAppendFormat(&text_,
                            "<path d=\"M%.0f %.0fh22\" stroke=\"%s\" stroke-width=\"2.4\"%s/><text x=\"%.0f\" y=\"%.0f\" "
                            "font-size=\"12\">%s</text>\n",
                            x, y - 4, colour, dashes, x + 28, y, Escaped(text));
      x += 52 + 7.2 * static_cast<double>(text.size());
    };
    if (units_.size() == unit_of_.size())
      entry(kStepColours[0], "", tree_.levels() > 0 ? "step within a " + cluster_.levels.back().name : "step");
    for (int left = 1; left <= std::min(tree_.levels(), 3); ++left) {
      const int level = tree_.levels() - left;
      if (tree_.GroupsOn(level) > 1) entry(kStepColours[left], "", "step that leaves a " + cluster_.levels[At(level)].name);
    }
    if (!cluster_.links.empty()) entry("#c3cad2", " stroke-dasharray=\"3 4\"", "direct link");
    size_t rings = 0;
    for (const RingPanel& panel : panels_) rings = std::max(rings, panel.rings.size());
    if (rings > 1) {
      absl::StrAppendFormat(&text_, "<text x=\"%.0f\" y=\"%.0f\" font-size=\"12\">rings from outside to inside%s</text>\n", x,
                            y, rings > kDrawnRingsMax ? absl::StrCat(", ", kDrawnRingsMax, " of ", rings) : "");
    }
  }

  const Cluster& cluster_;
  const GroupTree& tree_;
  const std::vector<RingPanel>& panels_;
  std::vector<int> units_;    // a node of each dot
  std::vector<int> unit_of_;  // by node
  std::string text_;
};

}  // namespace

std::string PlanSvg(const Cluster& cluster, const GroupTree& tree, const std::string& title,
                    const std::vector<RingPanel>& panels) {
  return Drawing(cluster, tree, panels).Take(title);
}

}  // namespace muster
