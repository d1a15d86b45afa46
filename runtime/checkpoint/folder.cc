#include "runtime/checkpoint/folder.h"

#include <algorithm>
#include <span>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {

absl::StatusOr<std::string> ReadBounded(FileSystem& files, const std::string& path, int64_t bytes_max) {
  MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<ReadFile> file, files.OpenForRead(path));
  MUSTER_ASSIGN_OR_RETURN(const uint64_t bytes, file->Size());
  if (bytes > static_cast<uint64_t>(bytes_max)) {
    return absl::DataLossError(
        absl::StrCat(path, " is damaged: it has ", bytes, " bytes, more than the ", bytes_max, " possible"));
  }
  std::string text(static_cast<size_t>(bytes), '\0');
  MUSTER_ASSIGN_OR_RETURN(const size_t got, file->ReadAt(0, std::as_writable_bytes(std::span(text))));
  text.resize(got);
  return text;
}

absl::StatusOr<std::string> ReadManifestText(FileSystem& files, const std::string& step_folder) {
  return ReadBounded(files, absl::StrCat(step_folder, "/", kManifestName), kManifestBytesMax);
}

absl::StatusOr<Manifest> DecodeManifestOf(const std::string& step_folder, int64_t step, absl::string_view text) {
  const std::string path = absl::StrCat(step_folder, "/", kManifestName);
  auto manifest = DecodeManifest(text);
  if (!manifest.ok()) return absl::DataLossError(absl::StrCat(path, " is damaged: ", manifest.status().message()));
  if (manifest->content.step != step) {
    return absl::DataLossError(absl::StrCat(path, " is damaged: it is that of step ", manifest->content.step));
  }
  return manifest;
}

absl::StatusOr<std::vector<int64_t>> StepsIn(FileSystem& files, const std::string& folder) {
  const auto names = files.List(folder);
  if (absl::IsNotFound(names.status())) return std::vector<int64_t>();
  if (!names.ok()) return names.status();
  std::vector<int64_t> steps;
  for (const std::string& name : *names) {
    if (const std::optional<int64_t> step = StepOfFolderName(name)) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

absl::StatusOr<std::map<SaveName, SaveFiles>> SavesIn(FileSystem& files, const std::string& step_folder) {
  const auto names = files.List(step_folder);
  if (absl::IsNotFound(names.status())) return std::map<SaveName, SaveFiles>();
  if (!names.ok()) return names.status();
  std::map<SaveName, SaveFiles> saves;
  for (const std::string& name : *names) {
    const std::optional<SaveFile> file = ParseSaveFileName(name);
    if (!file) continue;
    SaveFiles& save = saves[file->save];
    if (file->index) {
      save.data.push_back(name);
    } else {
      save.manifest_to_be = true;
    }
  }
  return saves;
}

absl::Status RemoveSaves(FileSystem& files, const std::string& step_folder, int64_t step, std::map<SaveName, SaveFiles> saves,
                         const std::optional<std::string>& manifest) {
  const auto remove = [&files, &step_folder](absl::string_view name) {
    const absl::Status status = files.Unlink(absl::StrCat(step_folder, "/", name));
    return absl::IsNotFound(status) ? absl::OkStatus() : status;
  };
  for (const auto& [name, save] : saves) {
    if (save.manifest_to_be) MUSTER_RETURN_IF_ERROR(remove(ManifestToBeName(name)));
  }
  if (manifest) {
    // Once more: it was read a while ago, and another one is not ours to remove.
    const auto now = ReadManifestText(files, step_folder);
    if (now.ok() && *now != *manifest) return absl::OkStatus();
    MUSTER_RETURN_IF_ERROR(remove(kManifestName));
  }
  if (std::any_of(saves.begin(), saves.end(), [](const auto& save) { return !save.second.data.empty(); })) {
    const absl::Status synced = files.SyncFolder(step_folder);
    if (absl::IsNotFound(synced)) return absl::OkStatus();  // another one has removed it all
    MUSTER_RETURN_IF_ERROR(synced);
    const auto text = ReadManifestText(files, step_folder);
    if (text.ok()) {
      MUSTER_ASSIGN_OR_RETURN(const Manifest standing, DecodeManifestOf(step_folder, step, *text));
      saves.erase(SaveOf(standing.content));
    } else if (!absl::IsNotFound(text.status())) {
      return text.status();
    }
  }
  for (const auto& [name, save] : saves) {
    for (const std::string& data : save.data) MUSTER_RETURN_IF_ERROR(remove(data));
  }
  const absl::Status removed = files.RemoveFolder(step_folder);
  return absl::IsFailedPrecondition(removed) || absl::IsNotFound(removed) ? absl::OkStatus() : removed;
}

absl::Status RemoveUnfinishedSaves(FileSystem& files, const std::string& folder, const CheckpointContent& content) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, StepsIn(files, folder));
  absl::Status first_error;
  for (const int64_t step : steps) {
    const std::string step_folder = StepFolder(folder, step);
    if (step > content.step || files.Exists(absl::StrCat(step_folder, "/", kManifestName))) continue;
    auto saves = SavesIn(files, step_folder);
    if (!saves.ok()) {
      first_error.Update(saves.status());
      continue;
    }
    std::erase_if(*saves, [&content](const auto& save) {
      return save.first.generation > content.generation || save.first == SaveOf(content);
    });
    first_error.Update(RemoveSaves(files, step_folder, step, *std::move(saves), std::nullopt));
  }
  return first_error;
}

}  // namespace muster
