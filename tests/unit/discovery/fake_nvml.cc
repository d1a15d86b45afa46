// A library with NVML's functions and two machines in it, chosen by MUSTER_FAKE_NVML_MACHINE: "pairs" (four GPUs, joined in pairs by four
// links, one link down, one GPU with memory errors), "switched" (eight GPUs on NVSwitches, part of a domain of several machines),
// "lost" (a GPU that has fallen off the bus), "no-driver".
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "launcher/discovery/nvml_api.h"

using muster::nvml::GpuFabricInfo;
using muster::nvml::PciInfo;
using muster::nvml::Return;

namespace {

constexpr Return kInvalidArgument = 2;

std::string Machine() {
  const char* machine = std::getenv("MUSTER_FAKE_NVML_MACHINE");
  return machine == nullptr ? "" : machine;
}

unsigned Gpus() { return Machine() == "switched" ? 8 : 4; }

// Handles are indices above 0.
unsigned IndexOf(muster::nvml::Device device) { return static_cast<unsigned>(reinterpret_cast<uintptr_t>(device)) - 1; }

bool IsLost(muster::nvml::Device device) { return Machine() == "lost" && IndexOf(device) == 2; }

void FillPci(unsigned index, PciInfo* info) {
  std::snprintf(info->bus_id, sizeof info->bus_id, "%08X:%02X:00.0", 0u, 0x1a + index);
}

}  // namespace

extern "C" {
Return nvmlInit_v2() { return Machine() == "no-driver" ? muster::nvml::kDriverNotLoaded : muster::nvml::kSuccess; }
Return nvmlShutdown() { return muster::nvml::kSuccess; }
const char* nvmlErrorString(Return result) { return result == muster::nvml::kGpuIsLost ? "GPU is lost" : "some error"; }
Return nvmlSystemGetDriverVersion(char* text, unsigned bytes) {
  std::snprintf(text, bytes, "550.1");
  return muster::nvml::kSuccess;
}
Return nvmlDeviceGetCount_v2(unsigned* count) {
  *count = Gpus();
  return muster::nvml::kSuccess;
}
Return nvmlDeviceGetHandleByIndex_v2(unsigned index, muster::nvml::Device* device) {
  if (index >= Gpus()) return kInvalidArgument;
  if (Machine() == "lost" && index == 1) return muster::nvml::kGpuIsLost;
  *device = reinterpret_cast<muster::nvml::Device>(static_cast<uintptr_t>(index) + 1);
  return muster::nvml::kSuccess;
}
Return nvmlDeviceGetUUID(muster::nvml::Device device, char* text, unsigned bytes) {
  if (IsLost(device)) return muster::nvml::kGpuIsLost;
  std::snprintf(text, bytes, "GPU-%u", IndexOf(device));
  return muster::nvml::kSuccess;
}
Return nvmlDeviceGetName(muster::nvml::Device device, char* text, unsigned bytes) {
  if (IsLost(device)) return muster::nvml::kGpuIsLost;
  std::snprintf(text, bytes, "Fake H200");
  return muster::nvml::kSuccess;
}
Return nvmlDeviceGetPciInfo_v3(muster::nvml::Device device, PciInfo* info) {
  FillPci(IndexOf(device), info);
  return muster::nvml::kSuccess;
}
Return nvmlDeviceGetNvLinkState(muster::nvml::Device device, unsigned link, unsigned* active) {
  const unsigned links = Machine() == "switched" ? 18 : 4;
  if (link >= links || IsLost(device)) return muster::nvml::kNotSupported;
  *active = Machine() == "pairs" && IndexOf(device) == 3 && link == 1 ? 0 : 1;
  return muster::nvml::kSuccess;
}
Return nvmlDeviceGetNvLinkRemotePciInfo_v2(muster::nvml::Device device, unsigned, PciInfo* info) {
  FillPci(IndexOf(device) ^ 1u, info);
  return muster::nvml::kSuccess;
}
Return nvmlDeviceGetNvLinkRemoteDeviceType(muster::nvml::Device, unsigned, int* type) {
  *type = Machine() == "switched" ? muster::nvml::kRemoteSwitch : muster::nvml::kRemoteGpu;
  return muster::nvml::kSuccess;
}
Return nvmlDeviceGetTotalEccErrors(muster::nvml::Device device, int type, int, unsigned long long* count) {
  *count = Machine() == "pairs" && IndexOf(device) == 0 && type == muster::nvml::kUncorrectedErrors ? 3 : 0;
  return muster::nvml::kSuccess;
}
Return nvmlDeviceGetRemappedRows(muster::nvml::Device device, unsigned* correctable, unsigned* uncorrectable, unsigned* pending,
                                 unsigned* failed) {
  *correctable = *uncorrectable = 0;
  *pending = *failed = Machine() == "pairs" && IndexOf(device) == 2 ? 1 : 0;
  return muster::nvml::kSuccess;
}
Return nvmlDeviceGetGpuFabricInfo(muster::nvml::Device, GpuFabricInfo* info) {
  if (Machine() != "switched") return muster::nvml::kNotSupported;
  std::memset(info, 0, sizeof *info);
  for (unsigned i = 0; i < sizeof info->cluster_uuid; ++i) info->cluster_uuid[i] = static_cast<unsigned char>(0x10 + i);
  info->clique_id = 7;
  info->state = muster::nvml::kFabricCompleted;
  return muster::nvml::kSuccess;
}
}
