// The functions of NVIDIA's management library that muster calls, declared anew: nothing of NVIDIA is needed to build.
//
// Source: NVML API reference, release 535 and newer (nvml.h). Types and values are theirs; the names here say only what is used.
#ifndef MUSTER_LAUNCHER_DISCOVERY_NVML_API_H_
#define MUSTER_LAUNCHER_DISCOVERY_NVML_API_H_

#include <cstddef>

namespace muster::nvml {

using Return = int;
inline constexpr Return kSuccess = 0;
inline constexpr Return kNotSupported = 3;
inline constexpr Return kDriverNotLoaded = 9;
inline constexpr Return kGpuIsLost = 15;

using Device = struct DeviceHandle*;

struct PciInfo {
  char bus_id_legacy[16];
  unsigned domain;
  unsigned bus;
  unsigned device;
  unsigned pci_device_id;
  unsigned pci_subsystem_id;
  char bus_id[32];
};

struct GpuFabricInfo {
  unsigned char cluster_uuid[16];
  Return status;
  unsigned clique_id;
  unsigned char state;
};
inline constexpr unsigned char kFabricCompleted = 3;

inline constexpr size_t kUuidBytes = 96;
inline constexpr size_t kNameBytes = 96;
inline constexpr size_t kVersionBytes = 80;
inline constexpr unsigned kLinksMax = 18;
inline constexpr int kRemoteGpu = 0;
inline constexpr int kRemoteSwitch = 2;
inline constexpr int kUncorrectedErrors = 1;
inline constexpr int kSinceDriverLoad = 0;

struct Api {
  // Every library has these.
  Return (*init)() = nullptr;                                           // nvmlInit_v2
  Return (*shutdown)() = nullptr;                                       // nvmlShutdown
  const char* (*error_string)(Return result) = nullptr;                 // nvmlErrorString
  Return (*device_count)(unsigned* count) = nullptr;                    // nvmlDeviceGetCount_v2
  Return (*device_by_index)(unsigned index, Device* device) = nullptr;  // nvmlDeviceGetHandleByIndex_v2
  Return (*uuid)(Device device, char* text, unsigned bytes) = nullptr;  // nvmlDeviceGetUUID
  Return (*name)(Device device, char* text, unsigned bytes) = nullptr;  // nvmlDeviceGetName
  Return (*pci_info)(Device device, PciInfo* info) = nullptr;           // nvmlDeviceGetPciInfo_v3
  // Null where a library is older, which is no fault.
  Return (*driver_version)(char* text, unsigned bytes) = nullptr;                  // nvmlSystemGetDriverVersion
  Return (*link_state)(Device device, unsigned link, unsigned* active) = nullptr;  // nvmlDeviceGetNvLinkState
  Return (*link_remote)(Device device, unsigned link, PciInfo* info) = nullptr;    // nvmlDeviceGetNvLinkRemotePciInfo_v2
  Return (*link_remote_type)(Device device, unsigned link, int* type) = nullptr;   // nvmlDeviceGetNvLinkRemoteDeviceType
  Return (*ecc_errors)(Device device, int type, int counter,
                       unsigned long long* count) = nullptr;  // nvmlDeviceGetTotalEccErrors
  Return (*remapped_rows)(Device device, unsigned* correctable, unsigned* uncorrectable, unsigned* pending,
                          unsigned* failed) = nullptr;                  // nvmlDeviceGetRemappedRows
  Return (*fabric_info)(Device device, GpuFabricInfo* info) = nullptr;  // nvmlDeviceGetGpuFabricInfo
};

}  // namespace muster::nvml

#endif  // MUSTER_LAUNCHER_DISCOVERY_NVML_API_H_
