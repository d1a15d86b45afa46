// The folder of one step: what lies in it, and removing things from it so that at no moment, and after no loss of power, a
// manifest stands there without its files.
#ifndef MUSTER_RUNTIME_CHECKPOINT_FOLDER_H_
#define MUSTER_RUNTIME_CHECKPOINT_FOLDER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/base/file_system.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/names.h"

namespace muster {

// Bytes of `path`, at most `bytes_max` of them. Errors: DataLoss when there are more.
absl::StatusOr<std::string> ReadBounded(FileSystem& files, const std::string& path, int64_t bytes_max);

// The manifest of a step's folder as it stands there. Errors: NotFound when there is none.
absl::StatusOr<std::string> ReadManifestText(FileSystem& files, const std::string& step_folder);

// Errors: DataLoss, a sentence with the path: it cannot be read as a manifest, or is that of another step.
absl::StatusOr<Manifest> DecodeManifestOf(const std::string& step_folder, int64_t step, absl::string_view text);

// Steps that have a folder in `folder`, ascending; none when there is no such folder.
absl::StatusOr<std::vector<int64_t>> StepsIn(FileSystem& files, const std::string& folder);

// The files of one save in a step's folder.
struct SaveFiles {
  bool manifest_to_be = false;
  std::vector<std::string> data;  // names
};
absl::StatusOr<std::map<SaveName, SaveFiles>> SavesIn(FileSystem& files, const std::string& step_folder);

// Removes these saves, and the manifest too if its text is `manifest`; then the folder, if it is empty now.
//
// First each save's manifest-to-be goes: from then on it can never be committed, unless it was already. What the manifest that
// stands there then names is spared. The removals so far are made durable before the first data file goes.
absl::Status RemoveSaves(FileSystem& files, const std::string& step_folder, int64_t step, std::map<SaveName, SaveFiles> saves,
                         const std::optional<std::string>& manifest);

// Removes what other saves of `content`'s generation and earlier ones left unfinished in the folders of its step and those before.
absl::Status RemoveUnfinishedSaves(FileSystem& files, const std::string& folder, const CheckpointContent& content);

}  // namespace muster

#endif  // MUSTER_RUNTIME_CHECKPOINT_FOLDER_H_
