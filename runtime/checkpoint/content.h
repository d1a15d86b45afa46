// What a checkpoint holds, and how it is cut into files: by tensors alone, so the same files at any world size. Pure.
#ifndef MUSTER_RUNTIME_CHECKPOINT_CONTENT_H_
#define MUSTER_RUNTIME_CHECKPOINT_CONTENT_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "muster/tensor.h"

namespace muster {

struct CheckpointTensor {
  std::string name;  // unique: "weight", "adam.first_moment/weight"
  DataType type = DataType::kFloat32;
  std::vector<int64_t> shape;  // row-major
  int64_t bytes() const;

  bool operator==(const CheckpointTensor&) const = default;
};

// Everything but the tensors' bytes. `attributes` are the program's own: cursor, digests, options that a resumed run must share.
// Text is UTF-8.
struct CheckpointContent {
  int64_t step = 0;
  uint64_t generation = 0;  // of the writers; in the files' names, not in their bytes
  // Random: who calls StartSave draws it anew for every save and tells the other writers. In the files' names, so that no two
  // saves ever share one: generations begin at 1 again in the next job, and a save that failed may be tried again.
  uint32_t save_id = 0;
  std::string job_id;  // lower-case hexadecimal; for people
  std::map<std::string, std::string> attributes;
  std::vector<CheckpointTensor> tensors;
};

// Errors: InvalidArgument: what cannot be written down (a name twice, empty or reserved, text that is not UTF-8, a negative
// step or extent, a tensor beyond 2^62 bytes).
absl::Status CheckContent(const CheckpointContent& content);

// A file of the checkpoint: whole tensors, those of larger elements first, so that each lies on a multiple of its elements' size
// as some readers need; among equals in order.
struct CheckpointFilePlan {
  std::vector<int> tensors;  // places in CheckpointContent::tensors
  int64_t bytes = 0;         // of the whole file, header included
};

// Fills files up to `file_bytes_max` (their headers may add a few bytes) in the order of the tensors; a larger tensor has a file
// of its own.
inline constexpr int64_t kCheckpointFileBytes = int64_t{64} << 20;
std::vector<CheckpointFilePlan> PlanFiles(const CheckpointContent& content, int64_t file_bytes_max = kCheckpointFileBytes);

}  // namespace muster

#endif  // MUSTER_RUNTIME_CHECKPOINT_CONTENT_H_
