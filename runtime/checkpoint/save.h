// Writing one checkpoint: FORMAT.md says what lies on disk and why in this order.
//
//   committer                  StartSave: folder step-N, and in it the manifest to be, empty, under the save's own name
//   every writer               WriteCheckpointFile for its files; each is durable when it returns
//   committer                  CommitSave: manifest written, synced, and renamed without ever replacing one; folder synced
//   committer                  PruneCheckpoints
//
// A writer of an old generation that was paused at any point and goes on can neither damage nor replace what others committed
// meanwhile: it creates files exclusively under names that no other save has, and its commit fails once its manifest-to-be has
// been pruned or another one is there. The saves of one generation come one after the other: one has ended on all its writers
// before the next StartSave.
#ifndef MUSTER_RUNTIME_CHECKPOINT_SAVE_H_
#define MUSTER_RUNTIME_CHECKPOINT_SAVE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/base/file_system.h"
#include "runtime/checkpoint/content.h"

namespace muster {

// Errors common to all: ResourceExhausted (disk full, read-only, no permission: path and remedy), InvalidArgument (CheckContent).

// Makes `folder` and its step-N where they are missing, and removes what saves that will never be finished left in it.
// Errors: AlreadyExists when step-N has a manifest, FailedPrecondition when content.save_id was used before.
absl::Status StartSave(FileSystem& files, const std::string& folder, const CheckpointContent& content);

// Checksums (XXH3, 64 bit) of a written file, in pieces of kCheckpointChunkBytes: what the committer needs to know of it.
inline constexpr int64_t kCheckpointChunkBytes = int64_t{4} << 20;
struct WrittenFile {
  std::vector<uint64_t> chunk_checksums;
};

// How many chunks file `index` has: known to all beforehand.
int64_t ChunksOf(const CheckpointFilePlan& plan);

// Writes file `index` of the plan and syncs it; `data` gives a tensor's bytes by its place in content.tensors, and `read` is
// called once, when they are not needed any more, after an error too. Blocks on the disk.
// Errors: also NotFound (step-N is not to be seen from here: the folder is not shared by all nodes, or the save was pruned).
absl::StatusOr<WrittenFile> WriteCheckpointFile(FileSystem& files, const std::string& folder, const CheckpointContent& content,
                                                const std::vector<CheckpointFilePlan>& plan, int index,
                                                const std::function<std::span<const std::byte>(int tensor)>& data,
                                                const std::function<void()>& read);

// Errors: also Aborted (another generation has committed this step, or has pruned this save), NotFound (a file is not to be seen
// from here: the folder is not shared by all nodes; names file and writer's remedy).
absl::Status CommitSave(FileSystem& files, const std::string& folder, const CheckpointContent& content,
                        const std::vector<CheckpointFilePlan>& plan, const std::vector<WrittenFile>& written);

// To be called when `committed` has been committed by the caller. Of the steps up to that one, keeps the newest `keep` whole
// checkpoints and what damaged ones lie between them; removes the others, unfinished saves of the caller's and earlier
// generations, and files that no manifest names. Later steps are another's and are not touched. What cannot be removed is left
// for the next time; an error says so and harms no checkpoint. `damaged`: steps known to be damaged though their manifests are whole; they do not count among `keep`.
absl::Status PruneCheckpoints(FileSystem& files, const std::string& folder, const CheckpointContent& committed, int keep,
                              const std::set<int64_t>& damaged = {});

}  // namespace muster

#endif  // MUSTER_RUNTIME_CHECKPOINT_SAVE_H_
