#include "launcher/discovery/node_devices.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

constexpr size_t kDevicesMax = 256;
constexpr char kNvidia[] = "0x10de";

// The first line, without blanks around it; empty: there is no such file.
std::string Line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return std::string(absl::StripAsciiWhitespace(line));
}

int Number(const fs::path& path, int otherwise) {
  int number = 0;
  return absl::SimpleAtoi(Line(path), &number) ? number : otherwise;
}

std::vector<fs::path> EntriesOf(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end && entries.size() < kDevicesMax;
       entry.increment(error)) {
    entries.push_back(entry->path());
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

bool IsHostBridge(const std::string& name) { return absl::StartsWith(name, "pci") && absl::StrContains(name, ':'); }

// A device's folder is below those of the bridges above it: .../pci0000:16/0000:16:01.0/0000:17:00.0.
NodeDevices::Device ReadDevice(const fs::path& link) {
  NodeDevices::Device device;
  std::error_code error;
  const fs::path folder = fs::canonical(link, error);
  if (error) return device;
  for (const fs::path& part : folder) {
    if (IsHostBridge(part.string())) device.bridges.clear();
    if (IsHostBridge(part.string()) || !device.bridges.empty()) device.bridges.push_back(part.string());
  }
  if (device.bridges.size() < 2) return {};  // not on a PCI bus
  device.bus = device.bridges.back();
  device.bridges.pop_back();
  device.numa = Number(folder / "numa_node", -1);
  device.link_speed = Line(folder / "max_link_speed");
  if (!absl::StrContains(device.link_speed, "GT/s")) device.link_speed.clear();  // "Unknown"
  device.link_width = std::max(0, Number(folder / "max_link_width", 0));
  if (device.link_width > 32) device.link_width = 0;  // 255: not known
  return device;
}

// Of a card whose ports share a place on the bus each interface says which port it is.
std::string InterfaceOf(const fs::path& card, int port) {
  const std::vector<fs::path> interfaces = EntriesOf(card / "device/net");
  for (const fs::path& one : interfaces) {
    if (interfaces.size() == 1 || Number(one / "dev_port", 0) == port - 1) return one.filename().string();
  }
  return "";
}

// "400 Gb/sec (4X NDR)".
double RateOf(const std::string& text) {
  double number = 0;
  const std::vector<std::string> words = absl::StrSplit(text, ' ');
  return words.size() >= 2 && words[1] == "Gb/sec" && absl::SimpleAtod(words[0], &number) && number > 0 ? number * 1e9 / 8 : 0;
}

std::vector<NodeDevices::Port> PortsOf(const fs::path& card) {
  std::vector<NodeDevices::Port> ports;
  for (const fs::path& folder : EntriesOf(card / "ports")) {
    NodeDevices::Port port;
    const std::string layer = Line(folder / "link_layer");
    if (!absl::SimpleAtoi(folder.filename().string(), &port.number)) continue;
    if (layer != "InfiniBand" && layer != "Ethernet") continue;  // others, such as AWS's, are not for NCCL's own network
    port.device = card.filename().string();
    port.ethernet = layer == "Ethernet";
    port.active = absl::StartsWith(Line(folder / "state"), "4:");
    port.bytes_per_second = RateOf(Line(folder / "rate"));
    port.interface = InterfaceOf(card, port.number);
    ports.push_back(std::move(port));
  }
  std::sort(ports.begin(), ports.end(), [](const auto& a, const auto& b) { return a.number < b.number; });
  return ports;
}

// The verbs devices of a folder by their NICs: "mlx5_0" -> "uverbs0".
std::map<std::string, std::string> VerbsIn(const fs::path& folder) {
  std::map<std::string, std::string> verbs;
  for (const fs::path& one : EntriesOf(folder)) {
    if (const std::string nic = Line(one / "ibdev"); !nic.empty()) verbs.emplace(nic, one.filename().string());
  }
  return verbs;
}

// As NodeDevices::Port::unusable.
std::string WhyUnusable(const std::string& verbs, const std::string& dev) {
  if (verbs.empty()) return "it has no uverbs device; is ib_uverbs loaded?";
  const std::string path = absl::StrCat(dev, "/infiniband/", verbs);
  if (::faccessat(AT_FDCWD, path.c_str(), R_OK | W_OK, AT_EACCESS) == 0) return "";
  if (errno == ENOENT) return absl::StrCat(path, " is not there");
  return absl::StrCat(path, " cannot be opened: ", ::strerror(errno));
}

}  // namespace

NodeDevices ReadNodeDevices(const std::string& sysfs, const std::string& topology_file, const std::string& dev) {
  NodeDevices devices;
  struct Card {
    NodeDevices::Device device;
    std::vector<NodeDevices::Port> ports;
  };
  std::vector<Card> cards;
  const std::map<std::string, std::string> verbs = VerbsIn(fs::path(sysfs) / "class/infiniband_verbs");
  for (const fs::path& folder : EntriesOf(fs::path(sysfs) / "class/infiniband")) {
    Card card = {ReadDevice(folder / "device"), PortsOf(folder)};
    if (card.ports.empty()) continue;
    const std::string name = folder.filename().string();
    const auto one = verbs.find(name);
    const std::string unusable =
        WhyUnusable(one != verbs.end() ? one->second : VerbsIn(folder / "device/infiniband_verbs")[name], dev);
    for (NodeDevices::Port& port : card.ports) port.unusable = unusable;
    cards.push_back(std::move(card));
  }
  if (cards.empty()) return devices;
  std::stable_sort(cards.begin(), cards.end(), [](const Card& a, const Card& b) {
    return std::tie(a.device.bus, a.ports[0].device) < std::tie(b.device.bus, b.ports[0].device);
  });
  for (Card& card : cards) {
    for (NodeDevices::Port& port : card.ports) {
      port.nic = static_cast<int>(devices.nics.size());
      devices.ports.push_back(std::move(port));
    }
    devices.nics.push_back(std::move(card.device));
  }
  for (const fs::path& folder : EntriesOf(fs::path(sysfs) / "bus/pci/devices")) {
    const std::string kind = Line(folder / "class");
    if (Line(folder / "vendor") != kNvidia || !(absl::StartsWith(kind, "0x0300") || absl::StartsWith(kind, "0x0302"))) continue;
    if (NodeDevices::Device gpu = ReadDevice(folder); !gpu.bus.empty()) devices.gpus.push_back(std::move(gpu));
  }
  std::error_code error;
  devices.has_topology_file = fs::exists(topology_file, error);
  return devices;
}

}  // namespace muster
