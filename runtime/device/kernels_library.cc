#include "runtime/device/kernels_library.h"

#include <dlfcn.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace muster {
namespace {

constexpr char kName[] = "libmuster_cuda.so";

// Of the library or program that this code is in.
std::string OwnFolder() {
  Dl_info info;
  if (::dladdr(reinterpret_cast<const void*>(&OpenCudaKernels), &info) == 0 || info.dli_fname == nullptr) return "";
  const std::string file = info.dli_fname;
  const size_t slash = file.rfind('/');
  return slash == std::string::npos ? "" : file.substr(0, slash + 1);
}

absl::StatusOr<DeviceKernels*> KernelsOf(void* library, const std::string& file) {
  const auto version = reinterpret_cast<MusterDeviceKernelsVersion>(::dlsym(library, kDeviceKernelsVersionSymbol));
  const auto kernels = reinterpret_cast<MusterDeviceKernels>(::dlsym(library, kDeviceKernelsSymbol));
  if (version == nullptr || kernels == nullptr || version() != kDeviceKernelsVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the CUDA kernels ", file, " are not of this muster's version; install muster and muster-cuda of one version"));
  }
  return kernels();
}

}  // namespace

absl::StatusOr<DeviceKernels*> OpenCudaKernels() {
  const std::string beside = absl::StrCat(OwnFolder(), kName);
  for (const std::string& place : {beside, std::string(kName)}) {
    if (void* const library = ::dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL); library != nullptr)
      return KernelsOf(library, place);
    const char* const error = ::dlerror();
    if (::access(place.c_str(), F_OK) == 0) {
      return absl::FailedPreconditionError(
          absl::StrCat("the CUDA kernels ", place, " cannot be loaded: ", error == nullptr ? "no reason given" : error));
    }
  }
  return absl::FailedPreconditionError(
      absl::StrCat("the CUDA kernels ", kName, " are not installed (looked for ", beside,
                   " and in the loader's path): install the package muster-cuda, or build muster where nvcc is"));
}

absl::Status KernelStatus(DeviceKernels& kernels, int code, const char* doing) {
  if (code == kDeviceKernelsOk) return absl::OkStatus();
  char text[256] = {};
  kernels.ErrorText(code, text, sizeof(text));
  return absl::InternalError(absl::StrCat("cannot ", doing, " on the GPU: ", text));
}

}  // namespace muster
