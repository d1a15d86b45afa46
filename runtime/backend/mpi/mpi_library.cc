#include "runtime/backend/mpi/mpi_library.h"

#include <dlfcn.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace muster {
namespace {

constexpr char kName[] = "libmuster_mpi.so";
constexpr char kOrNative[] = "or leave --backend mpi and MUSTER_BACKEND out, for collectives without MPI";

// Of the library or program that this code is in.
std::string OwnFolder() {
  Dl_info info;
  if (::dladdr(reinterpret_cast<const void*>(&OpenMpiLibrary), &info) == 0 || info.dli_fname == nullptr) return "";
  const std::string file = info.dli_fname;
  const size_t slash = file.rfind('/');
  return slash == std::string::npos ? "" : file.substr(0, slash);
}

std::string LoaderError() {
  const char* text = ::dlerror();
  return text == nullptr ? "no reason given" : text;
}

absl::StatusOr<MpiApi*> ApiOf(void* library, const std::string& file) {
  const auto version = reinterpret_cast<MusterMpiApiVersion>(::dlsym(library, kMpiApiVersionSymbol));
  const auto api = reinterpret_cast<MusterMpiApi>(::dlsym(library, kMpiApiSymbol));
  if (version == nullptr || api == nullptr || version() != kMpiApiVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("the MPI backend ", file,
                     " is not of this muster's version; install muster and muster-mpi of one version, ", kOrNative));
  }
  return api();
}

}  // namespace

absl::StatusOr<MpiApi*> OpenMpiLibrary(const std::string& path) {
  std::vector<std::string> places;
  if (!path.empty()) {
    places = {path};
  } else {
    if (const std::string folder = OwnFolder(); !folder.empty()) places.push_back(absl::StrCat(folder, "/", kName));
    places.push_back(kName);
  }
  std::string why;
  for (const std::string& place : places) {
    void* const library = ::dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library != nullptr) return ApiOf(library, place);
    why = LoaderError();
    // It is there; what it needs is not.
    if (::access(place.c_str(), F_OK) == 0 || !absl::StartsWith(why, place)) {
      return absl::FailedPreconditionError(absl::StrCat("the MPI backend ", place, " cannot be loaded: ", why,
                                                        "; install Open MPI (package libopenmpi3), ", kOrNative));
    }
  }
  if (!path.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("the MPI backend cannot be loaded: MUSTER_MPI_LIBRARY: ", why,
                                                      "; name a libmuster_mpi.so there or unset it, ", kOrNative));
  }
  return absl::FailedPreconditionError(
      absl::StrCat("the MPI backend ", kName, " is not installed (looked for ", places.front(),
                   " and in the loader's path): install the package muster-mpi, or build muster where Open MPI's headers are "
                   "(package libopenmpi-dev), ",
                   kOrNative));
}

}  // namespace muster
