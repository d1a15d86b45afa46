// The drawing of a cluster: boxes in boxes, laid out from the inside to the outside.
#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "launcher/topology/cluster_picture.h"
#include "launcher/topology/group_tree.h"
#include "launcher/topology/speed_text.h"

namespace muster {
namespace {

constexpr double kGap = 8, kTitle = 20, kLetter = 6.6, kLetterSmall = 5.6;

// A box with what is in it, placed within its parent.
struct Box {
  double x = 0, y = 0, width = 0, height = 0;
  std::string title, note;  // the note in smaller letters behind the title
  const char* kind = "group";
  int depth = 0;
  std::vector<Box> parts;
};

std::string Escaped(absl::string_view text) {
  std::string safe;
  for (const char c : text) safe += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  return absl::StrReplaceAll(safe, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

double TextWidth(const Box& box) {
  return static_cast<double>(box.title.size()) * kLetter + static_cast<double>(box.note.size()) * kLetterSmall +
         (box.note.empty() ? 0 : kGap) + 2 * kGap;
}

// Puts the parts in rows below the title; rows are as long as makes the whole about `aspect` times as wide as it is high.
void Arrange(double aspect, Box* box) {
  double area = 0, widest = 0;
  for (const Box& part : box->parts) {
    area += (part.width + kGap) * (part.height + kGap);
    widest = std::max(widest, part.width);
  }
  const double row_width = std::max({widest + 2 * kGap, std::sqrt(area * aspect) + widest / 2, TextWidth(*box)});
  double x = kGap, y = box->title.empty() ? kGap : kTitle + kGap, row_height = 0;
  box->width = TextWidth(*box);
  for (Box& part : box->parts) {
    if (x > kGap && x + part.width + kGap > row_width) {
      x = kGap;
      y += row_height + kGap;
      row_height = 0;
    }
    part.x = x;
    part.y = y;
    x += part.width + kGap;
    row_height = std::max(row_height, part.height);
    box->width = std::max(box->width, x);
  }
  box->height = y + row_height + (box->parts.empty() ? 0 : kGap);
}

class Drawer {
 public:
  Drawer(const Cluster& cluster, std::string title) : cluster_(cluster), tree_(cluster), title_(std::move(title)) {
    detailed_ = cluster.nodes.size() <= kDetailedNodesMax;
    counted_ = cluster.nodes.size() > kDrawnNodesMax;
  }

  std::string Draw() {
    Box root = BoxOf(0, 0);
    root.title = title_;
    root.note = absl::StrCat(cluster_.nodes.size(), cluster_.nodes.size() == 1 ? " node" : " nodes");
    Arrange(1.6, &root);
    std::string body;
    Write(root, 0, 0, &body);
    return absl::StrFormat(
        R"svg(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" font-family="DejaVu Sans, Verdana, sans-serif" font-size="11">
<style>
text { fill: #1c2733; }
.note { font-size: 9px; fill: #5a6b7b; }
.group0 { fill: #ffffff; stroke: #8fa1b3; }
.group1 { fill: #eef3f8; stroke: #8fa1b3; }
.group2 { fill: #dde8f3; stroke: #7790a8; }
.group3 { fill: #c9daeb; stroke: #66829c; }
.node { fill: #fff7e0; stroke: #c09a3e; }
.numa { fill: #fffdf4; stroke: #c9b57c; stroke-dasharray: 3 2; }
.gpu { fill: #d9f0d3; stroke: #5f9a52; }
.nic { fill: #fbd9c9; stroke: #b8714f; }
</style>
%s</svg>
)svg",
        root.width, root.height, root.width, root.height, body);
  }

 private:
  Box BoxOf(int number, int depth) const {
    const GroupTree::Group& group = tree_.groups()[static_cast<size_t>(number)];
    if (number != 0 && group.label.empty() && group.children.size() == 1) return BoxOf(group.children[0], depth);
    Box box;
    box.depth = depth;
    if (depth > 0) {
      const std::string& level = cluster_.levels[static_cast<size_t>(group.level)].name;
      box.title = group.label.empty() ? absl::StrCat("without a ", level) : absl::StrCat(level, " ", group.label);
      const double uplink = group.label.empty() ? 0 : UplinkOfGroup(cluster_, tree_.Labels(number));
      if (uplink > 0) box.note = absl::StrCat("uplink ", BitsText(uplink));
    }
    for (const int child : group.children) box.parts.push_back(BoxOf(child, depth + 1));
    if (counted_ && !group.nodes.empty()) {
      Box& count = box.parts.emplace_back();
      count.kind = "node";
      count.title = absl::StrCat(group.nodes.size(), " nodes");
      count.width = TextWidth(count);
      count.height = kTitle;
    }
    for (const int node : group.nodes) {
      if (!counted_) box.parts.push_back(NodeBox(cluster_.nodes[static_cast<size_t>(node)]));
    }
    Arrange(group.children.empty() ? 2.4 : 1.6, &box);
    return box;
  }

  Box NodeBox(const Cluster::Node& node) const {
    Box box;
    box.kind = "node";
    box.title = node.name;
    const bool has_devices = !node.gpus.empty() || !node.nics.empty();
    if (detailed_ && has_devices) {
      AddDevices(node, &box);
      return box;
    }
    if (!node.gpus.empty()) box.note = absl::StrCat(node.gpus.size(), " GPUs");
    box.width = TextWidth(box);
    box.height = kTitle;
    return box;
  }

  void AddDevices(const Cluster::Node& node, Box* box) const {
    std::vector<int> domains;
    for (const auto& gpu : node.gpus) domains.push_back(gpu.numa);
    for (const auto& nic : node.nics) domains.push_back(nic.numa);
    std::sort(domains.begin(), domains.end());
    domains.erase(std::unique(domains.begin(), domains.end()), domains.end());
    for (const int numa : domains) {
      Box& part = box->parts.emplace_back();
      part.kind = "numa";
      part.title = numa < 0 ? "memory node not known" : absl::StrCat("memory node ", numa);
      for (size_t g = 0; g < node.gpus.size(); ++g) {
        if (node.gpus[g].numa == numa) part.parts.push_back(Chip("gpu", absl::StrCat("GPU ", g), GpuNote(node, g)));
      }
      for (size_t n = 0; n < node.nics.size(); ++n) {
        const Cluster::Nic& nic = node.nics[n];
        if (nic.numa != numa) continue;
        part.parts.push_back(Chip("nic", nic.name.empty() ? absl::StrCat("NIC ", n) : nic.name,
                                  nic.bytes_per_second > 0 ? BitsText(nic.bytes_per_second) : ""));
      }
      Arrange(2.0, &part);
    }
    Arrange(2.4, box);
  }

  // "NVLink 18 to all", "NIC mlx5_0 PIX".
  static std::string GpuNote(const Cluster::Node& node, size_t g) {
    std::string note;
    size_t best = node.nics.size();
    for (size_t n = 0; n < node.nics.size() && !node.distances.empty(); ++n) {
      const auto at = [&](size_t nic) { return node.distances[g * node.nics.size() + nic]; };
      if (best == node.nics.size() || at(n) < at(best)) best = n;
    }
    if (best < node.nics.size()) {
      note = absl::StrCat(PciDistanceName(node.distances[g * node.nics.size() + best]), " to ", node.nics[best].name);
    }
    int links = 0, peers = 0;
    for (size_t h = 0; h < node.gpus.size() && !node.nvlinks.empty(); ++h) {
      const int count = node.nvlinks[g * node.gpus.size() + h];
      links = std::max(links, count);
      peers += count > 0 ? 1 : 0;
    }
    if (peers > 0)
      absl::StrAppend(&note, note.empty() ? "" : ", ", links, " NVLinks to ", peers, peers == 1 ? " GPU" : " GPUs");
    return note;
  }

  static Box Chip(const char* kind, std::string title, std::string note) {
    Box chip;
    chip.kind = kind;
    chip.title = std::move(title);
    chip.note = std::move(note);
    chip.width = TextWidth(chip);
    chip.height = kTitle;
    return chip;
  }

  static void Write(const Box& box, double x, double y, std::string* out) {
    x += box.x;
    y += box.y;
    const std::string kind = std::string(box.kind) == "group" ? absl::StrCat("group", std::min(box.depth, 3)) : box.kind;
    absl::StrAppendFormat(out, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"3\"/>\n", kind,
                          x + 0.5, y + 0.5, box.width - 1, box.height - 1);
    if (!box.title.empty()) {
      absl::StrAppendFormat(out, "<text x=\"%.1f\" y=\"%.1f\">%s", x + kGap, y + 14, Escaped(box.title));
      if (!box.note.empty()) absl::StrAppend(out, "<tspan class=\"note\" dx=\"8\">", Escaped(box.note), "</tspan>");
      *out += "</text>\n";
    }
    for (const Box& part : box.parts) Write(part, x, y, out);
  }

  const Cluster& cluster_;
  const GroupTree tree_;
  const std::string title_;
  bool detailed_ = false;
  bool counted_ = false;
};

}  // namespace

std::string ClusterSvg(const Cluster& cluster, const std::string& title) { return Drawer(cluster, title).Draw(); }

}  // namespace muster
