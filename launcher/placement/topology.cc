#include "launcher/placement/topology.h"

#include <hwloc.h>

#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace muster {
namespace {

using Owner = std::unique_ptr<hwloc_topology, void (*)(hwloc_topology*)>;

Owner New() {
  hwloc_topology_t topology = nullptr;
  hwloc_topology_init(&topology);
  // Instruction caches, dies and groups are levels that no flag names.
  hwloc_topology_set_all_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_STRUCTURE);
  for (const hwloc_obj_type_t type :
       {HWLOC_OBJ_PACKAGE, HWLOC_OBJ_CORE, HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L2CACHE, HWLOC_OBJ_L3CACHE}) {
    hwloc_topology_set_type_filter(topology, type, HWLOC_TYPE_FILTER_KEEP_ALL);
  }
  for (const hwloc_obj_type_t type : {HWLOC_OBJ_L1ICACHE, HWLOC_OBJ_L2ICACHE, HWLOC_OBJ_L3ICACHE, HWLOC_OBJ_MISC}) {
    hwloc_topology_set_type_filter(topology, type, HWLOC_TYPE_FILTER_KEEP_NONE);
  }
  hwloc_topology_set_io_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
  // Plugins that open drivers or an X display; the PCI bus names the same devices at once.
  for (const char* component : {"cuda", "gl", "levelzero", "opencl", "rsmi"}) {
    hwloc_topology_set_components(topology, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, component);
  }
  return Owner(topology, hwloc_topology_destroy);
}

CpuSet SetOf(hwloc_const_bitmap_t bitmap) {
  CpuSet set;
  if (bitmap == nullptr || hwloc_bitmap_weight(bitmap) < 0) return set;
  for (int number = hwloc_bitmap_first(bitmap); number >= 0; number = hwloc_bitmap_next(bitmap, number)) {
    set.Add(static_cast<uint32_t>(number));
  }
  return set;
}

struct Bitmap {
  explicit Bitmap(const CpuSet& set) : bitmap(hwloc_bitmap_alloc()) {
    for (const uint32_t number : set.numbers()) hwloc_bitmap_set(bitmap, number);
  }
  ~Bitmap() { hwloc_bitmap_free(bitmap); }
  Bitmap(const Bitmap&) = delete;
  Bitmap& operator=(const Bitmap&) = delete;
  hwloc_bitmap_t bitmap;
};

// Without names and sizes: a third of the bytes, and machines that are alike have the same text. A line holds one element, and what
// is left out has none inside it.
std::string Trimmed(absl::string_view xml) {
  std::string trimmed;
  for (absl::string_view line : absl::StrSplit(xml, '\n', absl::SkipEmpty())) {
    line = absl::StripLeadingAsciiWhitespace(line);
    if (absl::StartsWith(line, "<info ") || absl::StartsWith(line, "<page_type ") || absl::StartsWith(line, "<support "))
      continue;
    constexpr absl::string_view kMemory = " local_memory=\"";
    if (const size_t at = line.find(kMemory); at != absl::string_view::npos) {
      absl::StrAppend(&trimmed, line.substr(0, at), line.substr(line.find('"', at + kMemory.size()) + 1), "\n");
    } else {
      absl::StrAppend(&trimmed, line, "\n");
    }
  }
  return trimmed;
}

using PciDevice = hwloc_obj_attr_u::hwloc_pcidev_attr_s;

std::string BusId(const PciDevice& pci) {
  return absl::StrFormat("%04x:%02x:%02x.%01x", pci.domain, pci.bus, pci.dev, pci.func);
}

// A 3D controller or a processing accelerator, or a graphics card of those who make both of one kind; a virtual machine's screen is none.
// Source: PCI Code and ID Assignment Specification 1.11, class codes 03 and 12.
bool IsComputeGpu(const PciDevice& pci) {
  constexpr unsigned kVga = 0x0300, k3d = 0x0302, kAccelerator = 0x1200, kNvidia = 0x10de, kAmd = 0x1002;
  return pci.class_id == k3d || pci.class_id == kAccelerator ||
         (pci.class_id == kVga && (pci.vendor_id == kNvidia || pci.vendor_id == kAmd));
}

// A device with what is around it. `object` is a device of the system, or of the bus.
Topology::Device Near(hwloc_topology_t topology, hwloc_obj_t object, std::string name, bool gpu) {
  Topology::Device device;
  device.name = std::move(name);
  device.gpu = gpu;
  const hwloc_obj_t near = hwloc_get_non_io_ancestor_obj(topology, object);
  device.nearest = SetOf(near->cpuset);
  device.memory_nodes = SetOf(near->nodeset);
  for (hwloc_obj_t above = object; above != nullptr && above != near; above = above->parent) {
    if (above->type == HWLOC_OBJ_PCI_DEVICE && device.bus.empty()) device.bus = BusId(above->attr->pcidev);
    if (above->type == HWLOC_OBJ_BRIDGE) {
      device.bridges.insert(device.bridges.begin(), absl::StrCat("bridge", above->gp_index));
    }
  }
  return device;
}

hwloc_obj_type_t TypeOf(PlacementLevel level) {
  switch (level) {
    case PlacementLevel::kPackage:
      return HWLOC_OBJ_PACKAGE;
    case PlacementLevel::kNuma:
      return HWLOC_OBJ_NUMANODE;
    case PlacementLevel::kL3Cache:
      return HWLOC_OBJ_L3CACHE;
    case PlacementLevel::kL2Cache:
      return HWLOC_OBJ_L2CACHE;
    case PlacementLevel::kL1Cache:
      return HWLOC_OBJ_L1CACHE;
    case PlacementLevel::kCore:
      return HWLOC_OBJ_CORE;
    case PlacementLevel::kHwthread:
      return HWLOC_OBJ_PU;
    default:
      return HWLOC_OBJ_MACHINE;
  }
}

}  // namespace

Topology::Topology(hwloc_topology* topology) : topology_(topology, hwloc_topology_destroy) {}

absl::StatusOr<Topology> Topology::Discover() {
  Owner topology = New();
  if (hwloc_topology_load(topology.get()) != 0) return absl::InternalError("hwloc cannot read this machine's topology");
  // hwloc knows the cgroup's cpuset; the process's own mask may be narrower still.
  const Topology whole(topology.release());
  hwloc_bitmap_t own = hwloc_bitmap_alloc();
  CpuSet cpus = whole.cpus();
  if (hwloc_get_cpubind(whole.topology_.get(), own, HWLOC_CPUBIND_PROCESS) == 0) cpus = cpus.And(SetOf(own));
  hwloc_bitmap_free(own);
  return cpus.empty() ? whole : whole.Restricted(cpus);
}

absl::StatusOr<Topology> Topology::FromSynthetic(const std::string& description) {
  Owner topology = New();
  // One hardware thread a core where none is said.
  const std::string whole = absl::StrContains(description, "pu:") ? description : description + " pu:1";
  if (hwloc_topology_set_synthetic(topology.get(), whole.c_str()) != 0 || hwloc_topology_load(topology.get()) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", description, "' is no description of a machine; write it like \"pack:2 numa:2 l3:4 core:8 pu:1\""));
  }
  return Topology(topology.release());
}

absl::StatusOr<Topology> Topology::FromXml(const std::string& xml) {
  Owner topology = New();
  if (hwloc_topology_set_xmlbuffer(topology.get(), xml.c_str(), static_cast<int>(xml.size() + 1)) != 0 ||
      hwloc_topology_load(topology.get()) != 0) {
    return absl::InvalidArgumentError("this is no topology in hwloc's XML; make one with: lstopo FILE.xml");
  }
  return Topology(topology.release());
}

absl::StatusOr<Topology> Topology::Restricted(const CpuSet& cpus) const {
  hwloc_topology_t copy = nullptr;
  if (hwloc_topology_dup(&copy, topology_.get()) != 0) return absl::ResourceExhaustedError("no memory for a topology");
  Owner owner(copy, hwloc_topology_destroy);
  const Bitmap wanted(cpus);
  if (!this->cpus().Intersects(cpus) || hwloc_topology_restrict(copy, wanted.bitmap, HWLOC_RESTRICT_FLAG_REMOVE_CPULESS) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("none of the processors ", cpus.ListText(), " is among the usable ones: ", this->cpus().ListText()));
  }
  return Topology(owner.release());
}

absl::StatusOr<std::string> Topology::ToXml() const {
  char* text = nullptr;
  int length = 0;
  if (hwloc_topology_export_xmlbuffer(topology_.get(), &text, &length, 0) != 0)
    return absl::InternalError("hwloc cannot write the topology");
  const std::string xml = Trimmed(absl::string_view(text, length > 0 ? static_cast<size_t>(length - 1) : 0));  // no final NUL
  hwloc_free_xmlbuffer(topology_.get(), text);
  return xml;
}

CpuSet Topology::cpus() const {
  return SetOf(hwloc_topology_get_allowed_cpuset(topology_.get())).And(SetOf(hwloc_get_root_obj(topology_.get())->cpuset));
}

std::vector<Topology::Object> Topology::ObjectsOf(PlacementLevel level) const {
  std::vector<Object> objects;
  for (hwloc_obj_t object = nullptr;
       (object = hwloc_get_next_obj_by_type(topology_.get(), TypeOf(level), object)) != nullptr;) {
    CpuSet cpus = SetOf(object->cpuset);
    if (!cpus.empty()) objects.push_back({level, static_cast<uint32_t>(objects.size()), std::move(cpus)});
  }
  return objects;
}

uint32_t Topology::ProcessorsIn(const CpuSet& cpus, bool hwthread_cpus) const {
  const Bitmap inside(cpus);
  uint32_t cores = 0;
  for (hwloc_obj_t core = nullptr;
       !hwthread_cpus && (core = hwloc_get_next_obj_by_type(topology_.get(), HWLOC_OBJ_CORE, core)) != nullptr;) {
    if (hwloc_bitmap_intersects(core->cpuset, inside.bitmap) != 0) ++cores;
  }
  return cores > 0 ? cores : static_cast<uint32_t>(cpus.size());
}

CpuSet Topology::MemoryNodesOf(const CpuSet& cpus) const {
  const Bitmap inside(cpus);
  CpuSet nodes;
  for (hwloc_obj_t node = nullptr; (node = hwloc_get_next_obj_by_type(topology_.get(), HWLOC_OBJ_NUMANODE, node)) != nullptr;) {
    if (hwloc_bitmap_intersects(node->cpuset, inside.bitmap) != 0) nodes.Add(node->os_index);
  }
  return nodes;
}

std::vector<Topology::Device> Topology::Devices() const {
  std::vector<Device> devices;
  std::map<hwloc_obj_t, size_t> gpu_of_bus;  // a GPU shows up under several names
  for (hwloc_obj_t object = nullptr; (object = hwloc_get_next_osdev(topology_.get(), object)) != nullptr;) {
    const auto type = object->attr->osdev.type;
    const bool gpu = type == HWLOC_OBJ_OSDEV_GPU || type == HWLOC_OBJ_OSDEV_COPROC;
    if (!gpu && type != HWLOC_OBJ_OSDEV_NETWORK && type != HWLOC_OBJ_OSDEV_OPENFABRICS) continue;
    const std::string name = object->name == nullptr ? "" : object->name;
    if (gpu && object->parent != nullptr) {
      const auto [known, is_new] = gpu_of_bus.emplace(object->parent, devices.size());
      if (!is_new) {
        if (type == HWLOC_OBJ_OSDEV_COPROC) devices[known->second].name = name;  // "cuda0" says more than "card0"
        continue;
      }
    }
    devices.push_back(Near(topology_.get(), object, name, gpu));
    devices.back().infiniband = type == HWLOC_OBJ_OSDEV_OPENFABRICS;
  }
  // A GPU whose driver shows nothing but the bus.
  for (hwloc_obj_t object = nullptr; (object = hwloc_get_next_pcidev(topology_.get(), object)) != nullptr;) {
    if (!IsComputeGpu(object->attr->pcidev) || gpu_of_bus.contains(object)) continue;
    devices.push_back(Near(topology_.get(), object, BusId(object->attr->pcidev), true));
  }
  return devices;
}

}  // namespace muster
