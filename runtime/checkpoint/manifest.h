// manifest.json: what a complete checkpoint is. FORMAT.md describes it member by member. Pure.
#ifndef MUSTER_RUNTIME_CHECKPOINT_MANIFEST_H_
#define MUSTER_RUNTIME_CHECKPOINT_MANIFEST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/checkpoint/content.h"
#include "runtime/checkpoint/save.h"

namespace muster {

inline constexpr int64_t kManifestBytesMax = int64_t{64} << 20;

struct ManifestFile {
  std::string name;
  int64_t bytes = 0;
  std::vector<uint64_t> chunk_checksums;

  bool operator==(const ManifestFile&) const = default;
};

// Where a tensor's bytes are.
struct ManifestPlace {
  int file = 0;
  int64_t offset = 0;  // in the file

  bool operator==(const ManifestPlace&) const = default;
};

struct Manifest {
  CheckpointContent content;
  int64_t committed_unix_ms = 0;
  std::vector<ManifestFile> files;
  std::vector<ManifestPlace> places;  // one a tensor
};

int64_t ChunksOfBytes(int64_t file_bytes);

// What CommitSave writes for these. `written` has one entry a file.
Manifest MakeManifest(const CheckpointContent& content, const std::vector<CheckpointFilePlan>& plan,
                      const std::vector<WrittenFile>& written, int64_t committed_unix_ms);

std::string EncodeManifest(const Manifest& manifest);

// Errors: InvalidArgument: what is wrong; everything that a later reader relies on is checked, but not the files.
absl::StatusOr<Manifest> DecodeManifest(absl::string_view text);

}  // namespace muster

#endif  // MUSTER_RUNTIME_CHECKPOINT_MANIFEST_H_
