// What stands where: folder/step-N/ holds manifest.json and the files of one save, gG-SSSSSSSS-..., G the writers' generation and
// S the save's number in hexadecimal digits. Pure.
#ifndef MUSTER_RUNTIME_CHECKPOINT_NAMES_H_
#define MUSTER_RUNTIME_CHECKPOINT_NAMES_H_

#include <compare>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "runtime/checkpoint/content.h"

namespace muster {

inline constexpr char kManifestName[] = "manifest.json";

// `folder` without slashes at its end.
std::string TrimFolder(absl::string_view folder);
std::string ParentFolder(const std::string& path);

std::string StepFolderName(int64_t step);  // "step-100"
std::optional<int64_t> StepOfFolderName(absl::string_view name);
std::string StepFolder(const std::string& folder, int64_t step);

// One save of one step.
struct SaveName {
  uint64_t generation = 0;
  uint32_t save_id = 0;

  auto operator<=>(const SaveName&) const = default;
};

SaveName SaveOf(const CheckpointContent& content);
std::string ManifestToBeName(const SaveName& save);         // "g7-5f3c9a12-manifest"
std::string DataFileName(const SaveName& save, int index);  // "g7-5f3c9a12-00003.safetensors"

struct SaveFile {
  SaveName save;
  std::optional<int> index;  // of a data file; none: the manifest to be
};
// What `name` is; nothing for any name that the two above do not give.
std::optional<SaveFile> ParseSaveFileName(absl::string_view name);

}  // namespace muster

#endif  // MUSTER_RUNTIME_CHECKPOINT_NAMES_H_
