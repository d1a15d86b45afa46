// Finds a shared library of NVIDIA's where it usually is, and opens it.
#ifndef MUSTER_RUNTIME_DEVICE_LIBRARY_SEARCH_H_
#define MUSTER_RUNTIME_DEVICE_LIBRARY_SEARCH_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"

namespace muster {

struct LibrarySearch {
  std::string what;                 // "NCCL"
  std::string variable;             // "MUSTER_NCCL_LIBRARY"
  std::string chosen;               // its value: the one file to open; empty: search
  std::vector<std::string> names;   // best first: "libnccl.so.2"
  std::vector<std::string> wheels;  // folders within a Python package folder: "nvidia/nccl/lib"
  std::string remedy;               // what to install
};

struct OpenedLibrary {
  void* handle = nullptr;  // stays open for the process's life
  std::string file;
};

// In this order: the file that `chosen` names; one that this process has loaded already; the loader's path; $CUDA_HOME, $CUDA_PATH and
// /usr/local/cuda; Python wheels of $VIRTUAL_ENV, $CONDA_PREFIX, the user and the system. `variable` gives an environment variable's value
// or null.
// Errors: FailedPrecondition: what was tried, what the loader said of a file that is there, and what to install.
absl::StatusOr<OpenedLibrary> OpenLibrary(const LibrarySearch& search, absl::FunctionRef<const char*(const char*)> variable);

}  // namespace muster

#endif  // MUSTER_RUNTIME_DEVICE_LIBRARY_SEARCH_H_
