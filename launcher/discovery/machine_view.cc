#include "launcher/discovery/machine_view.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launcher/topology/bus_distance.h"

namespace muster {
namespace {

int NumaOf(const Topology::Device& device) {
  return device.memory_nodes.size() == 1 ? static_cast<int>(*device.memory_nodes.numbers().begin()) : -1;
}

class Describer {
 public:
  Describer(const Topology& machine, const NvmlView& nvml, const std::vector<GivenDevice>& given, const NicSpeed& speed)
      : machine_(machine), nvml_(nvml), given_(given), speed_(speed) {}

  MachineView Describe(const std::string& name) {
    view_.node.name = name;
    CountProcessors();
    SortDevices();
    AddGpus();
    AddNics();
    TakeGiven();
    Measure();
    view_.notes.insert(view_.notes.end(), nvml_.notes.begin(), nvml_.notes.end());
    if (!nvml_.absence.empty() && view_.node.gpus.empty()) view_.notes.push_back(nvml_.absence);
    return std::move(view_);
  }

 private:
  void CountProcessors() {
    const CpuSet cpus = machine_.cpus();
    view_.packages = machine_.ObjectsOf(PlacementLevel::kPackage).size();
    view_.numa_nodes = machine_.ObjectsOf(PlacementLevel::kNuma).size();
    view_.cores = machine_.ProcessorsIn(cpus, false);
    view_.processors = cpus.size();
    view_.processor_list = cpus.ListText();
  }

  void SortDevices() {
    for (Topology::Device& device : machine_.Devices()) (device.gpu ? gpus_ : nics_).push_back(std::move(device));
    const auto by_bus = [](const Topology::Device& a, const Topology::Device& b) {
      return std::pair(a.bus.size(), a.bus) < std::pair(b.bus.size(), b.bus);
    };
    std::stable_sort(gpus_.begin(), gpus_.end(), by_bus);
    // A virtual machine's screen or a card of another make is no GPU that jobs get, once NVML says which are.
    std::set<std::string> known;
    for (const NvmlGpu& gpu : nvml_.gpus) known.insert(gpu.bus);
    for (const NvmlGpu& gpu : nvml_.gpus) {
      const auto seen =
          std::find_if(gpus_.begin(), gpus_.end(), [&](const Topology::Device& one) { return one.bus == gpu.bus; });
      if (seen != gpus_.end() || gpu.bus.empty()) continue;
      view_.notes.push_back(
          absl::StrCat("GPU ", gpu.bus, " is known to NVML and not to be seen on the bus: where it hangs is not known"));
      Topology::Device device;
      device.gpu = true;
      device.bus = gpu.bus;
      gpus_.push_back(std::move(device));
    }
    std::stable_sort(gpus_.begin(), gpus_.end(), by_bus);
  }

  void AddGpus() {
    for (const Topology::Device& device : gpus_) {
      size_t known = 0;
      while (known < nvml_.gpus.size() && nvml_.gpus[known].bus != device.bus) ++known;
      nvml_index_.push_back(known);
      const NvmlGpu gpu = known < nvml_.gpus.size() ? nvml_.gpus[known] : NvmlGpu();
      view_.node.gpus.push_back({!gpu.uuid.empty()     ? gpu.uuid
                                 : !device.bus.empty() ? device.bus
                                                       : device.name,
                                 NumaOf(device)});
      view_.gpu_models.push_back(!gpu.model.empty() ? gpu.model : device.name);
      view_.gpu_buses.push_back(device.bus);
      view_.gpu_faults.push_back(gpu.faults);
      if (!gpu.fabric.empty() && view_.fabric.empty()) view_.fabric = gpu.fabric;
      if (!gpu.fabric.empty() && gpu.fabric != view_.fabric) {
        view_.notes.push_back(absl::StrCat("GPU ", device.bus, " is in the NVLink domain ", gpu.fabric, " and others in ",
                                           view_.fabric, "; ", view_.fabric, " is taken for the machine"));
      }
    }
  }

  // One card shows up as mlx5_0 and as ib0; the verbs name is the one that NCCL and UCX take.
  void AddNics() {
    std::map<std::string, size_t> of_bus;
    for (Topology::Device& device : nics_) {
      const auto known = device.bus.empty() ? of_bus.end() : of_bus.find(device.bus);
      if (known == of_bus.end()) {
        if (!device.bus.empty()) of_bus[device.bus] = view_.node.nics.size();
        view_.node.nics.push_back({device.name, NumaOf(device), -1, speed_(device.name)});
        view_.nic_siblings.emplace_back();
        view_.nic_buses.push_back(device.bus);
        kept_nics_.push_back(device);
        continue;
      }
      Cluster::Nic& nic = view_.node.nics[known->second];
      std::string sibling = device.name;
      if (device.infiniband) std::swap(nic.name, sibling);
      std::string& siblings = view_.nic_siblings[known->second];
      absl::StrAppend(&siblings, siblings.empty() ? "" : " ", sibling);
      nic.bytes_per_second = std::max(nic.bytes_per_second, speed_(device.name));
    }
  }

  void TakeGiven() {
    std::set<std::string> given_buses;
    for (const GivenDevice& device : given_) {
      if (device.pci_bus_id.empty()) continue;
      given_buses.insert(device.pci_bus_id);
      for (size_t i = 0; i < gpus_.size(); ++i) {
        if (gpus_[i].bus == device.pci_bus_id)
          TakeNuma(device, absl::StrCat("GPU ", device.pci_bus_id), &view_.node.gpus[i].numa);
      }
      for (size_t i = 0; i < kept_nics_.size(); ++i) {
        if (kept_nics_[i].bus == device.pci_bus_id)
          TakeNuma(device, absl::StrCat("NIC ", view_.node.nics[i].name), &view_.node.nics[i].numa);
      }
      const auto is_it = [&](const Topology::Device& one) { return one.bus == device.pci_bus_id; };
      if (!std::any_of(gpus_.begin(), gpus_.end(), is_it) && !std::any_of(kept_nics_.begin(), kept_nics_.end(), is_it)) {
        view_.notes.push_back(absl::StrCat(device.place, " names the device ", device.pci_bus_id,
                                           ", which this machine does not show; it is left out"));
      }
      if (!device.pcie_root.empty()) roots_[device.pci_bus_id] = device.pcie_root;
    }
  }

  void TakeNuma(const GivenDevice& device, const std::string& what, int* numa) {
    if (!device.numa_node || *device.numa_node == *numa) return;
    if (*numa >= 0) {
      view_.notes.push_back(absl::StrCat(what, " is at memory node ", *device.numa_node, " by ", device.place, " and at ",
                                         *numa, " by the bus; ", *device.numa_node, " is taken"));
    }
    *numa = *device.numa_node;
  }

  void Measure() {
    const size_t gpus = gpus_.size(), nics = kept_nics_.size();
    for (size_t g = 0; g < gpus; ++g) {
      for (size_t n = 0; n < nics; ++n) {
        PciDistance distance = DistanceOf(gpus_[g], kept_nics_[n]);
        const int gpu_numa = view_.node.gpus[g].numa, nic_numa = view_.node.nics[n].numa;
        // What Kubernetes says of roots and memory nodes stands above the bus where the bus shows less, as in a virtual machine.
        const auto gpu_root = roots_.find(gpus_[g].bus), nic_root = roots_.find(kept_nics_[n].bus);
        if (distance > PciDistance::kPhb && gpu_root != roots_.end() && nic_root != roots_.end() &&
            gpu_root->second == nic_root->second) {
          distance = PciDistance::kPhb;
        } else if (distance > PciDistance::kPhb && gpu_numa >= 0 && nic_numa >= 0) {
          distance = gpu_numa == nic_numa ? PciDistance::kNode : PciDistance::kSys;
        }
        view_.node.distances.push_back(distance);
      }
    }
    if (nvml_.gpus.empty()) return;
    for (size_t g = 0; g < gpus; ++g) {
      for (size_t h = 0; h < gpus; ++h) {
        const size_t one = nvml_index_[g], two = nvml_index_[h], all = nvml_.gpus.size();
        view_.node.nvlinks.push_back(g != h && one < all && two < all ? nvml_.links[one * all + two] : 0);
      }
    }
  }

  const Topology& machine_;
  const NvmlView& nvml_;
  const std::vector<GivenDevice>& given_;
  const NicSpeed& speed_;
  MachineView view_;
  std::vector<Topology::Device> gpus_, nics_, kept_nics_;
  std::vector<size_t> nvml_index_;            // of each GPU; past the end: NVML does not know it
  std::map<std::string, std::string> roots_;  // by bus
};

}  // namespace

PciDistance DistanceOf(const Topology::Device& one, const Topology::Device& other) {
  if (one.bus.empty() || other.bus.empty()) return PciDistance::kUnknown;
  if (const PciDistance distance = BusDistance(one.bridges, other.bridges); distance != PciDistance::kUnknown) return distance;
  if (one.memory_nodes.empty() || other.memory_nodes.empty()) return PciDistance::kUnknown;
  return one.memory_nodes.Intersects(other.memory_nodes) ? PciDistance::kNode : PciDistance::kSys;
}

MachineView DescribeMachine(const std::string& name, const Topology& machine, const NvmlView& nvml,
                            const std::vector<GivenDevice>& given, const NicSpeed& speed) {
  return Describer(machine, nvml, given, speed).Describe(name);
}

}  // namespace muster
