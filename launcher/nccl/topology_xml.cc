#include "launcher/nccl/topology_xml.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "launcher/topology/bus_distance.h"

namespace muster {
namespace {

constexpr size_t kDevicesMax = 64;  // NCCL's parser takes 256 elements, and 32 in one
// Of a switch below which nobody tells a speed: PCIe 4.0 x16, what the slowest machines with such switches have.
constexpr char kSwitchSpeed[] = "16.0 GT/s PCIe";
constexpr int kSwitchWidth = 16;

// "00000000:3B:00.0", as NVML and CUDA write it, and "0000:3b:00.0", as the kernel does.
std::string AsKernelWrites(const std::string& bus) {
  std::string text = absl::AsciiStrToLower(bus);
  if (text.size() == 16 && text.compare(0, 4, "0000") == 0 && text[8] == ':') text.erase(0, 4);
  return text;
}

struct Leaf {
  const NodeDevices::Device* device = nullptr;
  bool gpu = false;
  int listed = 0;  // its place in listed.gpus or listed.nics
  int numa = -1;
};

class Sets {
 public:
  explicit Sets(size_t size) : parent_(size) { std::iota(parent_.begin(), parent_.end(), size_t{0}); }
  size_t Find(size_t one) const {
    while (parent_[one] != one) one = parent_[one];
    return one;
  }
  void Join(size_t one, size_t other) { parent_[std::max(Find(one), Find(other))] = std::min(Find(one), Find(other)); }

 private:
  std::vector<size_t> parent_;
};

double SpeedOf(const std::string& text) {
  double number = 0;
  return absl::SimpleAtod(text.substr(0, text.find(' ')), &number) ? number : 0;
}

class Writer {
 public:
  Writer(const NodeDevices& devices, const Cluster::Node& listed) : devices_(devices), listed_(listed) {}

  TopologyXml Write() {
    TopologyXml xml;
    if (!SaysOfSwitches() || devices_.gpus.empty() || devices_.nics.empty()) return xml;
    if (devices_.gpus.size() + devices_.nics.size() > kDevicesMax) return xml;
    if (!FindGpus(&xml.why_not)) return xml;
    FindNics();
    if (leaves_.size() == listed_.gpus.size()) {
      xml.why_not = "none of its NICs that are listed is there";
      return xml;
    }
    JoinNear();
    xml.text = Text();
    return xml;
  }

 private:
  bool SaysOfSwitches() const {
    return std::any_of(listed_.distances.begin(), listed_.distances.end(),
                       [](PciDistance one) { return one == PciDistance::kPix || one == PciDistance::kPxb; });
  }

  // By their addresses where all are listed so, else in the order of the bus.
  bool FindGpus(std::string* why_not) {
    std::vector<const NodeDevices::Device*> by_address;
    for (const Cluster::Gpu& gpu : listed_.gpus) {
      const auto is_it = [&](const NodeDevices::Device& one) { return one.bus == AsKernelWrites(gpu.name); };
      const auto found = std::find_if(devices_.gpus.begin(), devices_.gpus.end(), is_it);
      by_address.push_back(found == devices_.gpus.end() ? nullptr : &*found);
    }
    const bool addresses = std::find(by_address.begin(), by_address.end(), nullptr) == by_address.end();
    if (!addresses && listed_.gpus.size() != devices_.gpus.size()) {
      *why_not = absl::StrCat("it has ", devices_.gpus.size(), " GPUs, and ", listed_.gpus.size(), " are listed");
      return false;
    }
    for (size_t i = 0; i < listed_.gpus.size(); ++i) {
      const NodeDevices::Device& device = addresses ? *by_address[i] : devices_.gpus[i];
      leaves_.push_back({&device, true, static_cast<int>(i), device.numa >= 0 ? device.numa : listed_.gpus[i].numa});
    }
    return true;
  }

  void FindNics() {
    std::vector<bool> taken(devices_.nics.size(), false);
    for (size_t n = 0; n < listed_.nics.size(); ++n) {
      const std::string& name = listed_.nics[n].name;
      for (const NodeDevices::Port& port : devices_.ports) {
        const auto nic = static_cast<size_t>(port.nic);
        if (name.empty() || taken[nic] || (name != port.device && name != port.interface)) continue;
        const NodeDevices::Device& device = devices_.nics[nic];
        leaves_.push_back({&device, false, static_cast<int>(n), device.numa >= 0 ? device.numa : listed_.nics[n].numa});
        taken[nic] = true;
        break;
      }
    }
  }

  PciDistance Listed(const Leaf& gpu, const Leaf& nic) const {
    return listed_.distances[static_cast<size_t>(gpu.listed) * listed_.nics.size() + static_cast<size_t>(nic.listed)];
  }

  void JoinNear() {
    switches_ = Sets(leaves_.size());
    uppers_ = Sets(leaves_.size());
    for (size_t g = 0; g < leaves_.size(); ++g) {
      for (size_t n = 0; n < leaves_.size(); ++n) {
        if (!leaves_[g].gpu || leaves_[n].gpu) continue;
        const PciDistance distance = Listed(leaves_[g], leaves_[n]);
        if (distance == PciDistance::kPix) switches_.Join(g, n);
        if (distance == PciDistance::kPix || distance == PciDistance::kPxb) uppers_.Join(g, n);
      }
    }
  }

  std::string Text() {
    // Everything that is together stands below the memory node of its first device.
    std::map<int, std::map<size_t, std::map<size_t, std::vector<const Leaf*>>>> tree;
    for (size_t i = 0; i < leaves_.size(); ++i) {
      const size_t upper = uppers_.Find(i);
      tree[leaves_[upper].numa][upper][switches_.Find(i)].push_back(&leaves_[i]);
    }
    text_ = "<system version=\"1\">\n";
    for (const auto& [numa, uppers] : tree) {
      absl::StrAppend(&text_, "  <cpu numaid=\"", numa, "\">\n");
      for (const auto& [upper, switches] : uppers) AddUpper(switches);
      absl::StrAppend(&text_, "  </cpu>\n");
    }
    absl::StrAppend(&text_, "</system>\n");
    return std::move(text_);
  }

  void AddUpper(const std::map<size_t, std::vector<const Leaf*>>& switches) {
    if (switches.size() == 1) return AddSwitch(switches.begin()->second, 4);
    std::vector<const Leaf*> all;
    for (const auto& [id, leaves] : switches) all.insert(all.end(), leaves.begin(), leaves.end());
    OpenSwitch(all, 4);
    for (const auto& [id, leaves] : switches) {
      OpenSwitch(leaves, 6);
      for (const Leaf* leaf : leaves) AddLeaf(*leaf, 8);
      absl::StrAppend(&text_, "      </pci>\n");
    }
    absl::StrAppend(&text_, "    </pci>\n");
  }

  void AddSwitch(const std::vector<const Leaf*>& leaves, int indent) {
    if (leaves.size() == 1) return AddLeaf(*leaves.front(), indent);
    OpenSwitch(leaves, indent);
    for (const Leaf* leaf : leaves) AddLeaf(*leaf, indent + 2);
    absl::StrAppend(&text_, std::string(static_cast<size_t>(indent), ' '), "</pci>\n");
  }

  // As fast as the fastest below. Made-up addresses stand where no bus is.
  void OpenSwitch(const std::vector<const Leaf*>& leaves, int indent) {
    const Leaf* fastest = *std::max_element(leaves.begin(), leaves.end(), [](const Leaf* a, const Leaf* b) {
      return std::pair(SpeedOf(a->device->link_speed), a->device->link_width) <
             std::pair(SpeedOf(b->device->link_speed), b->device->link_width);
    });
    const bool known = SpeedOf(fastest->device->link_speed) > 0 && fastest->device->link_width > 0;
    ++switches_made_;
    absl::StrAppendFormat(&text_, "%s<pci busid=\"ffff:%02x:%02x.0\" class=\"0x060400\" link_speed=\"%s\" link_width=\"%d\">\n",
                          std::string(static_cast<size_t>(indent), ' '), switches_made_ / 32, switches_made_ % 32,
                          known ? fastest->device->link_speed : kSwitchSpeed,
                          known ? fastest->device->link_width : kSwitchWidth);
  }

  void AddLeaf(const Leaf& leaf, int indent) {
    absl::StrAppend(&text_, std::string(static_cast<size_t>(indent), ' '), "<pci busid=\"", leaf.device->bus, "\" class=\"",
                    leaf.gpu ? "0x030200" : "0x020000", "\"");
    if (SpeedOf(leaf.device->link_speed) > 0 && leaf.device->link_width > 0) {
      absl::StrAppend(&text_, " link_speed=\"", leaf.device->link_speed, "\" link_width=\"", leaf.device->link_width, "\"");
    }
    absl::StrAppend(&text_, "/>\n");
  }

  const NodeDevices& devices_;
  const Cluster::Node& listed_;
  std::vector<Leaf> leaves_;  // GPUs, then NICs
  Sets switches_{0}, uppers_{0};
  int switches_made_ = 0;
  std::string text_;
};

}  // namespace

bool BusIsHidden(const NodeDevices& devices) {
  for (const NodeDevices::Device& gpu : devices.gpus) {
    for (const NodeDevices::Device& nic : devices.nics) {
      const PciDistance distance = BusDistance(gpu.bridges, nic.bridges);
      if (distance == PciDistance::kPix || distance == PciDistance::kPxb) return false;
    }
  }
  return !devices.gpus.empty() && !devices.nics.empty();
}

TopologyXml MakeTopologyXml(const NodeDevices& devices, const Cluster::Node& listed) { return Writer(devices, listed).Write(); }

}  // namespace muster
