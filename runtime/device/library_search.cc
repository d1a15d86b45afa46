#include "runtime/device/library_search.h"

#include <dlfcn.h>
#include <glob.h>
#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace muster {
namespace {

using Variable = absl::FunctionRef<const char*(const char*)>;

std::vector<std::string> FilesLike(const std::string& pattern) {
  std::vector<std::string> files;
  glob_t found = {};
  if (::glob(pattern.c_str(), 0, nullptr, &found) == 0) files.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  return files;
}

std::vector<std::string> CudaFolders(Variable variable) {
  std::vector<std::string> folders;
  for (const char* name : {"CUDA_HOME", "CUDA_PATH"}) {
    const char* folder = variable(name);
    if (folder != nullptr && *folder != '\0') folders.push_back(folder);
  }
  folders.push_back("/usr/local/cuda");
  return folders;
}

std::vector<std::string> PythonFolders(Variable variable) {
  std::vector<std::string> folders;
  for (const char* name : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
    const char* folder = variable(name);
    if (folder != nullptr && *folder != '\0') folders.push_back(absl::StrCat(folder, "/lib/python3*/site-packages"));
  }
  if (const char* home = variable("HOME"); home != nullptr && *home != '\0') {
    folders.push_back(absl::StrCat(home, "/.local/lib/python3*/site-packages"));
  }
  for (const char* folder : {"/usr/local/lib/python3*/site-packages", "/usr/local/lib/python3*/dist-packages",
                             "/usr/lib/python3*/site-packages", "/usr/lib/python3/dist-packages"}) {
    folders.push_back(folder);
  }
  return folders;
}

std::string LoaderError() {
  const char* text = ::dlerror();
  return text == nullptr ? "no reason given" : text;
}

absl::Status CannotLoad(const LibrarySearch& search, const std::string& why) {
  return absl::FailedPreconditionError(absl::StrCat(search.what, " cannot be loaded: ", why, "; ", search.remedy));
}

}  // namespace

absl::StatusOr<OpenedLibrary> OpenLibrary(const LibrarySearch& search, Variable variable) {
  if (!search.chosen.empty()) {
    void* const handle = ::dlopen(search.chosen.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle != nullptr) return OpenedLibrary{handle, search.chosen};
    return absl::FailedPreconditionError(absl::StrCat(search.what, " cannot be loaded: ", search.variable, ": ", LoaderError(),
                                                      "; name a ", search.names.front(), " there or unset it"));
  }
  for (const int extra : {RTLD_NOLOAD, 0}) {
    for (const std::string& name : search.names) {
      void* const handle = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL | extra);
      if (handle != nullptr) return OpenedLibrary{handle, name};
      const std::string why = LoaderError();
      // The file is there; what it needs is not.
      if (extra == 0 && !absl::StartsWith(why, name)) return CannotLoad(search, why);
    }
  }
  std::vector<std::string> places;
  for (const std::string& cuda : CudaFolders(variable)) {
    for (const char* library : {"/lib64", "/lib"}) places.push_back(absl::StrCat(cuda, library));
  }
  const size_t cuda_places = places.size();
  for (const std::string& python : PythonFolders(variable)) {
    for (const std::string& wheel : search.wheels) places.push_back(absl::StrCat(python, "/", wheel));
  }
  for (const std::string& place : places) {
    for (const std::string& name : search.names) {
      for (const std::string& file : FilesLike(absl::StrCat(place, "/", name))) {
        void* const handle = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (handle == nullptr) return CannotLoad(search, LoaderError());
        return OpenedLibrary{handle, file};
      }
    }
  }
  places.resize(cuda_places);
  return absl::FailedPreconditionError(
      absl::StrCat(search.what, " is not installed (looked for ", absl::StrJoin(search.names, ", "), " in the loader's path, ",
                   absl::StrJoin(places, ", "), " and in Python's package folders, for ", absl::StrJoin(search.wheels, ", "),
                   "): ", search.remedy, ", or name the file in ", search.variable));
}

}  // namespace muster
