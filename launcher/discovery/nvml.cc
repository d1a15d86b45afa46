#include "launcher/discovery/nvml.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace muster {
namespace {

// NVML writes eight digits of domain where the kernel writes four: "00000000:3B:00.0".
std::string BusOf(const nvml::PciInfo& info) {
  std::string bus = absl::AsciiStrToLower(absl::string_view(info.bus_id, strnlen(info.bus_id, sizeof info.bus_id)));
  const size_t colon = bus.find(':');
  if (colon == 8 && bus.compare(0, 4, "0000") == 0) bus.erase(0, 4);
  return bus;
}

class Asker {
 public:
  explicit Asker(const nvml::Api& api) : api_(api) {}

  NvmlView Ask() {
    if (const nvml::Return result = api_.init(); result != nvml::kSuccess) {
      view_.absence = result == nvml::kDriverNotLoaded
                          ? "no GPUs: NVIDIA's driver is not loaded"
                          : absl::StrCat("no GPUs: NVML does not start: ", api_.error_string(result));
      return std::move(view_);
    }
    AskAll();
    api_.shutdown();
    return std::move(view_);
  }

 private:
  void AskAll() {
    char text[nvml::kVersionBytes] = "";
    if (api_.driver_version != nullptr && api_.driver_version(text, sizeof text) == nvml::kSuccess)
      view_.driver = TextOf(text, sizeof text);
    unsigned count = 0;
    if (const nvml::Return result = api_.device_count(&count); result != nvml::kSuccess) {
      view_.absence = absl::StrCat("no GPUs: NVML cannot count them: ", api_.error_string(result));
      return;
    }
    for (unsigned index = 0; index < std::min(count, kGpusMax); ++index) {
      nvml::Device device = nullptr;
      if (const nvml::Return result = api_.device_by_index(index, &device); result != nvml::kSuccess) {
        view_.notes.push_back(
            absl::StrCat("GPU ", index, " cannot be asked: ", api_.error_string(result), ", and is left out"));
        continue;
      }
      devices_.push_back(device);
      view_.gpus.push_back(AskGpu(index, device));
    }
    if (view_.gpus.empty()) view_.absence = "no GPUs: NVML knows of none that this process may use";
    AskLinks();
  }

  static std::string TextOf(const char* text, size_t bytes) { return std::string(text, strnlen(text, bytes)); }

  NvmlGpu AskGpu(unsigned index, nvml::Device device) {
    NvmlGpu gpu;
    char text[std::max(nvml::kUuidBytes, nvml::kNameBytes)] = "";
    nvml::PciInfo pci = {};
    const nvml::Return named = api_.uuid(device, text, sizeof text);
    if (named == nvml::kSuccess) gpu.uuid = TextOf(text, sizeof text);
    if (named == nvml::kGpuIsLost) gpu.faults.push_back("it has fallen off the bus; the machine must be restarted");
    if (named != nvml::kSuccess && named != nvml::kGpuIsLost) {
      view_.notes.push_back(absl::StrCat("GPU ", index, " does not tell its UUID: ", api_.error_string(named)));
    }
    if (api_.name(device, text, sizeof text) == nvml::kSuccess) gpu.model = TextOf(text, sizeof text);
    if (api_.pci_info(device, &pci) == nvml::kSuccess) gpu.bus = BusOf(pci);
    AskHealth(device, &gpu);
    AskFabric(device, &gpu);
    return gpu;
  }

  void AskHealth(nvml::Device device, NvmlGpu* gpu) {
    unsigned long long errors = 0;
    if (api_.ecc_errors != nullptr &&
        api_.ecc_errors(device, nvml::kUncorrectedErrors, nvml::kSinceDriverLoad, &errors) == nvml::kSuccess && errors > 0) {
      gpu->faults.push_back(absl::StrCat(errors, " uncorrected memory errors since the driver was loaded"));
    }
    unsigned correctable = 0, uncorrectable = 0, pending = 0, failed = 0;
    if (api_.remapped_rows != nullptr &&
        api_.remapped_rows(device, &correctable, &uncorrectable, &pending, &failed) == nvml::kSuccess) {
      if (failed != 0) gpu->faults.push_back("a row of its memory could not be replaced: it should be exchanged");
      if (pending != 0) gpu->faults.push_back("rows of its memory are to be replaced when it is reset next");
    }
  }

  void AskFabric(nvml::Device device, NvmlGpu* gpu) {
    nvml::GpuFabricInfo info = {};
    if (api_.fabric_info == nullptr || api_.fabric_info(device, &info) != nvml::kSuccess) return;
    if (info.state != nvml::kFabricCompleted || info.status != nvml::kSuccess) return;
    const absl::string_view uuid(reinterpret_cast<const char*>(info.cluster_uuid), sizeof info.cluster_uuid);
    if (uuid == std::string(sizeof info.cluster_uuid, '\0')) return;  // a single machine's own switches
    const std::string hex = absl::BytesToHexString(uuid);
    gpu->fabric = absl::StrCat(hex.substr(0, 8), "-", hex.substr(8, 4), "-", hex.substr(12, 4), "-", hex.substr(16, 4), "-",
                               hex.substr(20), ".", info.clique_id);
  }

  void AskLinks() {
    const size_t gpus = devices_.size();
    view_.links.assign(gpus * gpus, 0);
    if (api_.link_state == nullptr || api_.link_remote == nullptr) return;
    std::map<std::string, size_t> by_bus;
    for (size_t i = 0; i < gpus; ++i) by_bus[view_.gpus[i].bus] = i;
    std::vector<int> to_switches(gpus, 0);
    for (size_t i = 0; i < gpus; ++i) {
      int down = 0;
      for (unsigned link = 0; link < nvml::kLinksMax; ++link) {
        unsigned active = 0;
        if (api_.link_state(devices_[i], link, &active) != nvml::kSuccess) continue;  // there is no such link
        if (active == 0) {
          ++down;
          continue;
        }
        int type = nvml::kRemoteGpu;
        if (api_.link_remote_type != nullptr && api_.link_remote_type(devices_[i], link, &type) == nvml::kSuccess &&
            type == nvml::kRemoteSwitch) {
          ++to_switches[i];
          continue;
        }
        nvml::PciInfo remote = {};
        if (api_.link_remote(devices_[i], link, &remote) != nvml::kSuccess) continue;
        const auto peer = by_bus.find(BusOf(remote));
        if (peer != by_bus.end() && peer->second != i) ++view_.links[i * gpus + peer->second];
      }
      if (down > 0) view_.gpus[i].faults.push_back(absl::StrCat(down, " of its NVLinks are down"));
    }
    for (size_t i = 0; i < gpus; ++i) {
      for (size_t j = 0; j < gpus; ++j) {
        if (i != j) view_.links[i * gpus + j] += std::min(to_switches[i], to_switches[j]);
      }
    }
  }

  static constexpr unsigned kGpusMax = 256;

  const nvml::Api& api_;
  std::vector<nvml::Device> devices_;
  NvmlView view_;
};

template <typename Function>
bool Load(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(::dlsym(library, name));
  return *function != nullptr;
}

}  // namespace

NvmlView AskNvml(const nvml::Api& api) { return Asker(api).Ask(); }

NvmlView ReadNvml(const std::string& library) {
  NvmlView view;
  const std::unique_ptr<void, int (*)(void*)> handle(::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL), ::dlclose);
  if (handle == nullptr) {
    view.absence = absl::StrCat("no NVIDIA GPUs: there is no ", library, " here, which comes with their driver");
    return view;
  }
  nvml::Api api;
  const bool whole = Load(handle.get(), "nvmlInit_v2", &api.init) && Load(handle.get(), "nvmlShutdown", &api.shutdown) &&
                     Load(handle.get(), "nvmlErrorString", &api.error_string) &&
                     Load(handle.get(), "nvmlDeviceGetCount_v2", &api.device_count) &&
                     Load(handle.get(), "nvmlDeviceGetHandleByIndex_v2", &api.device_by_index) &&
                     Load(handle.get(), "nvmlDeviceGetUUID", &api.uuid) && Load(handle.get(), "nvmlDeviceGetName", &api.name) &&
                     Load(handle.get(), "nvmlDeviceGetPciInfo_v3", &api.pci_info);
  if (!whole) {
    view.absence = absl::StrCat("no GPUs: ", library, " lacks functions that every NVML since 2013 has, and is not asked");
    return view;
  }
  Load(handle.get(), "nvmlSystemGetDriverVersion", &api.driver_version);
  Load(handle.get(), "nvmlDeviceGetNvLinkState", &api.link_state);
  Load(handle.get(), "nvmlDeviceGetNvLinkRemotePciInfo_v2", &api.link_remote);
  Load(handle.get(), "nvmlDeviceGetNvLinkRemoteDeviceType", &api.link_remote_type);
  Load(handle.get(), "nvmlDeviceGetTotalEccErrors", &api.ecc_errors);
  Load(handle.get(), "nvmlDeviceGetRemappedRows", &api.remapped_rows);
  Load(handle.get(), "nvmlDeviceGetGpuFabricInfo", &api.fabric_info);
  return AskNvml(api);
}

}  // namespace muster
