// Writing one checkpoint: FORMAT.md says what lies on disk and why in this order.
//
//   committer                  StartSave: folder step-N, and in it the manifest to be, empty, under a name of its generation
//   every writer               WriteCheckpointFile for its files; each is durable when it returns
//   committer                  Commit: manifest written, synced, and renamed without ever replacing one; folders synced
//   committer                  Prune
//
// A writer of an old generation that was paused at any point and goes on can neither damage nor replace what others committed
// meanwhile: it creates files exclusively under names of its own generation, and its commit fails once its manifest-to-be has
// been pruned or another one is there.
#ifndef MUSTER_RUNTIME_CHECKPOINT_SAVE_H_
#define MUSTER_RUNTIME_CHECKPOINT_SAVE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/base/file_system.h"
#include "runtime/checkpoint/content.h"

namespace muster {

// Errors common to all: ResourceExhausted (disk full, read-only, no permission: path and remedy).

// Makes `folder` and its step-N where they are missing. Errors: AlreadyExists when step-N has a manifest.
absl::Status StartSave(FileSystem& files, const std::string& folder, const CheckpointContent& content);

// Checksums (XXH3, 64 bit) of a written file, in pieces of kCheckpointChunkBytes: what the committer needs to know of it.
inline constexpr int64_t kCheckpointChunkBytes = int64_t{4} << 20;
struct WrittenFile {
  std::vector<uint64_t> chunk_checksums;
};

// How many chunks file `index` has: known to all beforehand.
int64_t ChunksOf(const CheckpointFilePlan& plan);

// Writes file `index` of the plan and syncs it; `data` gives a tensor's bytes by its place in content.tensors, and `read` is
// called when they are not needed any more. Blocks on the disk.
absl::StatusOr<WrittenFile> WriteCheckpointFile(FileSystem& files, const std::string& folder, const CheckpointContent& content,
                                                const std::vector<CheckpointFilePlan>& plan, int index,
                                                const std::function<std::span<const std::byte>(int tensor)>& data,
                                                const std::function<void()>& read);

// Errors: also Aborted (another generation has committed this step, or has pruned this save), NotFound (a file is not to be seen
// from here: the folder is not shared by all nodes; names file and writer's remedy).
absl::Status CommitSave(FileSystem& files, const std::string& folder, const CheckpointContent& content,
                        const std::vector<CheckpointFilePlan>& plan, const std::vector<WrittenFile>& written);

// Keeps the newest `keep` committed checkpoints; removes the others, what saves of generations before `generation` left behind,
// and files that no manifest names. What cannot be removed is left for the next time. Never touches a save of `generation` or a
// later one that is not committed yet.
absl::Status PruneCheckpoints(FileSystem& files, const std::string& folder, uint64_t generation, int keep);

}  // namespace muster

#endif  // MUSTER_RUNTIME_CHECKPOINT_SAVE_H_
