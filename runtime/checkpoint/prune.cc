#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/checkpoint/folder.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/names.h"
#include "runtime/checkpoint/save.h"

namespace muster {
namespace {

// A step that has a manifest.
struct Committed {
  int64_t step = 0;
  std::string folder;
  std::string text;                  // of the manifest
  std::optional<Manifest> manifest;  // where it is whole
};

bool SameWriters(const CheckpointContent& a, const CheckpointContent& b) {
  return a.generation == b.generation && a.job_id == b.job_id && !a.job_id.empty();
}

// Files in a kept folder that its manifest does not name: nobody can commit there any more.
absl::Status RemoveUnnamed(FileSystem& files, const Committed& kept) {
  if (!kept.manifest) return absl::OkStatus();  // who knows what it names
  MUSTER_ASSIGN_OR_RETURN(auto saves, SavesIn(files, kept.folder));
  std::erase_if(
      saves, [&kept](const auto& save) { return save.first == SaveOf(kept.manifest->content) && !save.second.manifest_to_be; });
  return saves.empty() ? absl::OkStatus() : RemoveSaves(files, kept.folder, kept.step, std::move(saves), std::nullopt);
}

absl::Status RemoveCommitted(FileSystem& files, const Committed& old, uint64_t generation) {
  MUSTER_ASSIGN_OR_RETURN(auto saves, SavesIn(files, old.folder));
  // A later generation's save that is not committed yet has its manifest-to-be.
  std::erase_if(saves, [&old, generation](const auto& save) {
    const bool names_it = old.manifest && save.first == SaveOf(old.manifest->content);
    return !names_it && save.first.generation > generation && save.second.manifest_to_be;
  });
  return RemoveSaves(files, old.folder, old.step, std::move(saves), old.text);
}

}  // namespace

absl::Status PruneCheckpoints(FileSystem& files, const std::string& folder, const CheckpointContent& committed, int keep,
                              const std::set<int64_t>& damaged) {
  MUSTER_ASSIGN_OR_RETURN(std::vector<int64_t> steps, StepsIn(files, folder));
  std::erase_if(steps, [&committed](int64_t step) { return step > committed.step; });
  std::reverse(steps.begin(), steps.end());
  std::vector<Committed> kept, old;
  int whole = 0;
  for (const int64_t step : steps) {
    Committed found{step, StepFolder(folder, step), "", std::nullopt};
    auto text = ReadManifestText(files, found.folder);
    if (!text.ok()) continue;  // an unfinished save, or nothing that can be removed
    found.text = *std::move(text);
    if (auto manifest = DecodeManifestOf(found.folder, step, found.text); manifest.ok()) found.manifest = *std::move(manifest);
    const bool is_old = whole >= std::max(keep, 1);
    if (found.manifest && !damaged.contains(step)) ++whole;
    (is_old ? old : kept).push_back(std::move(found));
  }

  absl::Status first_error;
  if (!old.empty()) {
    // Whoever committed it may have died before it was durable.
    for (const Committed& checkpoint : kept) {
      if (checkpoint.manifest && SameWriters(checkpoint.manifest->content, committed)) continue;
      MUSTER_RETURN_IF_ERROR(files.SyncFolder(checkpoint.folder));
    }
  }
  for (const Committed& checkpoint : kept) first_error.Update(RemoveUnnamed(files, checkpoint));
  for (const Committed& checkpoint : old) first_error.Update(RemoveCommitted(files, checkpoint, committed.generation));
  first_error.Update(RemoveUnfinishedSaves(files, folder, committed));
  return first_error;
}

}  // namespace muster
