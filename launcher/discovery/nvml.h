// What NVIDIA's management library says of this machine's GPUs: identity, NVLinks between them, health.
//
// The library is opened at run time and belongs to the driver. A machine without it has no such GPUs, which is a sentence and no
// error. Nothing of CUDA is touched: no context is made on any GPU.
#ifndef MUSTER_LAUNCHER_DISCOVERY_NVML_H_
#define MUSTER_LAUNCHER_DISCOVERY_NVML_H_

#include <string>
#include <vector>

#include "launcher/discovery/nvml_api.h"

namespace muster {

inline constexpr char kNvmlLibrary[] = "libnvidia-ml.so.1";

struct NvmlGpu {
  std::string uuid;    // "GPU-18db0e85-..."
  std::string model;   // "NVIDIA H200"
  std::string bus;     // "0000:3b:00.0", as the kernel writes it; empty: not told
  std::string fabric;  // NVLink domain of several machines, "CLUSTER-UUID.CLIQUE"; empty: none
  // What a person should look at, each a part of a sentence: "3 uncorrected memory errors since the driver was loaded".
  std::vector<std::string> faults;
};

struct NvmlView {
  std::string driver;         // its version
  std::vector<NvmlGpu> gpus;  // in the library's order
  // NVLinks that are up between GPUs g and h, at [g * gpus.size() + h]. Through switches every GPU reaches every other with all the
  // links that both have to them.
  std::vector<int> links;
  std::string absence;             // why there are no GPUs here; empty: there are
  std::vector<std::string> notes;  // what could not be asked
};

// Opens `library` (a name for the loader, or a path), asks, and closes it.
NvmlView ReadNvml(const std::string& library = kNvmlLibrary);

// The same through functions that are there already. Pure but for them.
NvmlView AskNvml(const nvml::Api& api);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_DISCOVERY_NVML_H_
