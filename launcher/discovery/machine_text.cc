#include "launcher/discovery/machine_text.h"

#include <algorithm>
#include <set>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launcher/topology/speed_text.h"

namespace muster {
namespace {

std::string Count(size_t count, const char* one, const char* many) { return absl::StrCat(count, " ", count == 1 ? one : many); }

using Row = std::vector<std::string>;

// Columns as wide as their widest cell, two blanks apart.
void AddTable(const std::vector<Row>& rows, std::string* text) {
  std::vector<size_t> widths;
  for (const Row& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; row.size() > 1 && i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());  // else a heading
  }
  for (const Row& row : rows) {
    std::string line = "  ";
    for (size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line.append(widths[i] - row[i].size() + 2, ' ');
    }
    absl::StrAppend(text, absl::StripTrailingAsciiWhitespace(line), "\n");
  }
}

void AddDevices(const MachineView& view, int numa, std::vector<Row>* rows) {
  for (size_t g = 0; g < view.node.gpus.size(); ++g) {
    if (view.node.gpus[g].numa != numa) continue;
    std::string model = view.gpu_models[g];
    for (const std::string& fault : view.gpu_faults[g]) absl::StrAppend(&model, ": ", fault);
    rows->push_back({absl::StrCat("  GPU ", g), view.node.gpus[g].name, view.gpu_buses[g], model});
  }
  for (size_t n = 0; n < view.node.nics.size(); ++n) {
    const Cluster::Nic& nic = view.node.nics[n];
    if (nic.numa != numa) continue;
    rows->push_back({absl::StrCat("  NIC ", nic.name), view.nic_siblings[n], view.nic_buses[n],
                     nic.bytes_per_second > 0 ? BitsText(nic.bytes_per_second) : ""});
  }
}

}  // namespace

std::string MachineText(const MachineView& view) {
  std::string text =
      absl::StrCat("node ", view.node.name, ": ", Count(view.packages, "package", "packages"), ", ",
                   Count(view.numa_nodes, "memory node", "memory nodes"), ", ", Count(view.cores, "core", "cores"), ", ",
                   Count(view.processors, "processor", "processors"), " (", view.processor_list, ")\n");
  if (!view.fabric.empty()) absl::StrAppend(&text, "  NVLink domain of several machines: ", view.fabric, "\n");
  std::set<int> domains;
  for (const auto& gpu : view.node.gpus) domains.insert(gpu.numa);
  for (const auto& nic : view.node.nics) domains.insert(nic.numa);
  std::vector<Row> rows;
  for (const int numa : domains) {
    rows.push_back({numa < 0 ? "memory node not known" : absl::StrCat("memory node ", numa)});
    AddDevices(view, numa, &rows);
  }
  AddTable(rows, &text);
  const size_t gpus = view.node.gpus.size(), nics = view.node.nics.size();
  if (!view.node.distances.empty()) {
    rows = {{"GPU to NIC"}};
    for (const auto& nic : view.node.nics) rows[0].push_back(nic.name);
    for (size_t g = 0; g < gpus; ++g) {
      Row& row = rows.emplace_back(Row{absl::StrCat("  GPU ", g)});
      for (size_t n = 0; n < nics; ++n) row.emplace_back(PciDistanceName(view.node.distances[g * nics + n]));
    }
    AddTable(rows, &text);
  }
  const bool linked = std::any_of(view.node.nvlinks.begin(), view.node.nvlinks.end(), [](int links) { return links > 0; });
  if (linked) {
    rows = {{"NVLinks"}};
    for (size_t g = 0; g < gpus; ++g) rows[0].push_back(absl::StrCat("GPU ", g));
    for (size_t g = 0; g < gpus; ++g) {
      Row& row = rows.emplace_back(Row{absl::StrCat("  GPU ", g)});
      for (size_t h = 0; h < gpus; ++h) row.push_back(g == h ? "-" : absl::StrCat(view.node.nvlinks[g * gpus + h]));
    }
    AddTable(rows, &text);
  }
  return text;
}

}  // namespace muster
