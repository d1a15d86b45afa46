// Finding, checking and reading checkpoints, at any world size.
#ifndef MUSTER_RUNTIME_CHECKPOINT_LOAD_H_
#define MUSTER_RUNTIME_CHECKPOINT_LOAD_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/base/file_system.h"
#include "runtime/checkpoint/content.h"

namespace muster {

struct CheckpointEntry {
  int64_t step = 0;
  std::string path;        // folder/step-N
  bool committed = false;  // has a manifest; else a save that was never finished
  // Of a committed one, as far as its manifest can be read:
  std::optional<CheckpointContent> content;
  int64_t bytes = 0;  // of its data files
  int64_t files = 0;
  int64_t committed_unix_ms = 0;
  absl::Status damage;  // not OK: the manifest cannot be read or does not hold together
};

// All of `folder`, oldest first; a folder that is not there has none. Errors: only where the folder itself cannot be read.
absl::StatusOr<std::vector<CheckpointEntry>> ListCheckpoints(FileSystem& files, const std::string& folder);

// Reads every file of the checkpoint and compares it with the manifest. Errors: DataLoss, one sentence that names file, tensor
// and offset of the first damage.
absl::Status VerifyCheckpoint(FileSystem& files, const CheckpointEntry& entry);

// Copies tensors to where `place` says (by their place in entry.content->tensors; an empty span skips one), checking each chunk
// before its tensor counts as read. Errors: DataLoss as above; the places then hold unspecified bytes.
absl::Status ReadCheckpoint(FileSystem& files, const CheckpointEntry& entry,
                            const std::function<std::span<std::byte>(int tensor)>& place);

}  // namespace muster

#endif  // MUSTER_RUNTIME_CHECKPOINT_LOAD_H_
