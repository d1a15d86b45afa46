// What Kubernetes tells a container of the devices that it was given: DRA's metadata files.
#ifndef MUSTER_LAUNCHER_LABELS_DEVICE_METADATA_H_
#define MUSTER_LAUNCHER_LABELS_DEVICE_METADATA_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

// Where containers find them, one file a driver: resourceclaims/CLAIM/REQUEST/DRIVER-metadata.json and
// resourceclaimtemplates/CLAIM/REQUEST/DRIVER-metadata.json.
inline constexpr char kDeviceMetadataFolder[] = "/var/run/kubernetes.io/dra-device-attributes";

struct GivenDevice {
  std::string driver;   // "gpu.nvidia.com"
  std::string name;     // "gpu-0", in the driver's words
  std::string request;  // of the claim: "gpu"
  std::string place;    // the file
  // By resource.kubernetes.io/pciBusID, pcieRoot and numaNode; empty, or none, where the driver does not say it.
  std::string pci_bus_id;  // "0000:3b:00.0", as the kernel writes it
  std::string pcie_root;   // "pci0000:3a"
  std::optional<int> numa_node;
  std::string uuid;
};

struct GivenDevices {
  std::vector<GivenDevice> devices;
  std::vector<std::string> notes;
};

// One file: the first object of kind DeviceMetadata whose version is known (metadata.resource.k8s.io/v1alpha1, v1beta1, v1). A file
// that is still empty (a driver that fills it later) gives a note. An attribute of the wrong type, a bus address that is none or a
// negative memory node gives a note, and counts as not said.
// Errors: InvalidArgument, "FILE:LINE:COLUMN: ...", for what is no JSON or no such object.
// Source: KEP-5304; kubernetes.io, "Dynamic Resource Allocation", device metadata.
absl::StatusOr<GivenDevices> ReadDeviceMetadata(const std::string& file, absl::string_view text);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_LABELS_DEVICE_METADATA_H_
