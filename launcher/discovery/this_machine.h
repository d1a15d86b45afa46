// Looks at the machine that this process is on.
#ifndef MUSTER_LAUNCHER_DISCOVERY_THIS_MACHINE_H_
#define MUSTER_LAUNCHER_DISCOVERY_THIS_MACHINE_H_

#include <string>

#include "absl/status/statusor.h"
#include "launcher/discovery/machine_view.h"
#include "launcher/discovery/nvml.h"
#include "launcher/labels/device_metadata.h"

namespace muster {

struct MachineSources {
  std::string nvml_library = kNvmlLibrary;
  std::string device_metadata = kDeviceMetadataFolder;  // not there: no device was given by DRA
  std::string sysfs = "/sys";                           // for the speed of NICs
};

// hwloc, NVML, DRA's files, and sysfs for the speed of NICs. No driver is opened but by NVML, no GPU is touched. What cannot be read is
// a note. Errors: Internal (hwloc sees nothing).
absl::StatusOr<MachineView> DiscoverThisMachine(const std::string& name, const MachineSources& sources = MachineSources());

}  // namespace muster

#endif  // MUSTER_LAUNCHER_DISCOVERY_THIS_MACHINE_H_
