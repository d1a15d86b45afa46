#include "launcher/cli/cluster_json.h"

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace muster {
namespace {

using Json = nlohmann::ordered_json;

std::string Speed(double bytes_per_second) { return absl::StrFormat("%.0fB/s", bytes_per_second); }
std::string Latency(int64_t ns) { return absl::StrCat(ns, "ns"); }

Json Labels(const Cluster& cluster, const std::vector<std::string>& labels) {
  Json json = Json::object();
  for (size_t level = 0; level < labels.size(); ++level) {
    // A range in brackets would be dealt out to several nodes by whoever reads it again.
    const std::string label = absl::StrReplaceAll(labels[level], {{"[", "("}, {"]", ")"}});
    if (!label.empty()) json[cluster.levels[level].name] = label;
  }
  return json;
}

template <typename Device>
Json DeviceJson(const Device& device) {
  Json json = Json::object();
  if (!device.name.empty()) json["name"] = device.name;
  if (device.numa >= 0) json["numa"] = device.numa;
  return json;
}

Json NodeJson(const Cluster& cluster, const Cluster::Node& node) {
  Json json = {{"name", node.name}};
  if (Json labels = Labels(cluster, node.labels); !labels.empty()) json["labels"] = std::move(labels);
  for (const Cluster::Gpu& gpu : node.gpus) json["gpus"].push_back(DeviceJson(gpu));
  for (const Cluster::Nic& nic : node.nics) {
    Json one = DeviceJson(nic);
    if (nic.rail >= 0) one["rail"] = nic.rail;
    if (nic.bytes_per_second > 0) one["speed"] = Speed(nic.bytes_per_second);
    json["nics"].push_back(std::move(one));
  }
  for (size_t g = 0; g < node.gpus.size() && !node.distances.empty(); ++g) {
    Json row = Json::array();
    for (size_t n = 0; n < node.nics.size(); ++n) row.push_back(PciDistanceName(node.distances[g * node.nics.size() + n]));
    json["distances"].push_back(std::move(row));
  }
  for (size_t g = 0; g < node.gpus.size() && !node.nvlinks.empty(); ++g) {
    Json row = Json::array();
    for (size_t h = 0; h < node.gpus.size(); ++h) row.push_back(node.nvlinks[g * node.gpus.size() + h]);
    json["nvlinks"].push_back(std::move(row));
  }
  return json;
}

// One entry a line: thousands of nodes stay readable and greppable.
void AddList(const char* name, const std::vector<Json>& entries, bool always, std::string* text) {
  if (entries.empty() && !always) return;
  absl::StrAppend(text, *text == "{\n" ? "" : ",\n", "  \"", name, "\": [");
  for (size_t i = 0; i < entries.size(); ++i) {
    absl::StrAppend(text, i == 0 ? "\n" : ",\n", "    ", entries[i].dump(-1, ' ', false, Json::error_handler_t::replace));
  }
  absl::StrAppend(text, entries.empty() ? "]" : "\n  ]");
}

}  // namespace

std::string ClusterJson(const Cluster& cluster) {
  std::vector<Json> levels, nodes, uplinks, links, measurements;
  for (const Cluster::Level& level : cluster.levels) {
    Json one = {{"name", level.name}};
    if (level.uplink_bytes_per_second > 0) one["uplink"] = Speed(level.uplink_bytes_per_second);
    if (level.latency_ns > 0) one["latency"] = Latency(level.latency_ns);
    if (level.per_rail) one["per_rail"] = true;
    levels.push_back(std::move(one));
  }
  for (const Cluster::Node& node : cluster.nodes) nodes.push_back(NodeJson(cluster, node));
  for (const Cluster::Uplink& uplink : cluster.uplinks) {
    uplinks.push_back({{"group", Labels(cluster, uplink.group)}, {"speed", Speed(uplink.bytes_per_second)}});
  }
  for (const Cluster::Link& link : cluster.links) {
    Json one = {
        {"from", Labels(cluster, link.from)}, {"to", Labels(cluster, link.to)}, {"speed", Speed(link.bytes_per_second)}};
    if (link.latency_ns > 0) one["latency"] = Latency(link.latency_ns);
    links.push_back(std::move(one));
  }
  for (const Cluster::Measurement& measured : cluster.measurements) {
    Json one = {{"from", cluster.nodes[static_cast<size_t>(measured.from)].name},
                {"to", cluster.nodes[static_cast<size_t>(measured.to)].name}};
    if (measured.latency_ns > 0) one["latency"] = Latency(measured.latency_ns);
    if (measured.bytes_per_second > 0) one["speed"] = Speed(measured.bytes_per_second);
    measurements.push_back(std::move(one));
  }
  std::string text = "{\n";
  AddList("levels", levels, true, &text);
  AddList("nodes", nodes, true, &text);
  AddList("uplinks", uplinks, false, &text);
  AddList("links", links, false, &text);
  AddList("measurements", measurements, false, &text);
  return text + "\n}\n";
}

}  // namespace muster
