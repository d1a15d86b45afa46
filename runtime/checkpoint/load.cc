#include "runtime/checkpoint/load.h"

#include <xxhash.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"
#include "runtime/checkpoint/folder.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/names.h"
#include "runtime/checkpoint/safetensors.h"

namespace muster {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 20;  // read and hashed at a time, while it is in the cache

// A run of a file that goes to `target`, or is only hashed.
struct Run {
  int64_t begin = 0;
  int64_t end = 0;
  std::byte* target = nullptr;  // of `begin`
};

// EIO and a missing file are damage; that this user may not read, or has no memory, is not.
absl::Status CannotRead(const absl::Status& status, const std::string& path) {
  if (absl::IsNotFound(status)) return absl::DataLossError(absl::StrCat(path, " is missing"));
  if (absl::IsInternal(status)) return absl::DataLossError(absl::StrCat(path, " cannot be read: ", status.message()));
  return status;
}

// One data file of a checkpoint, read in pieces.
class DataFile {
 public:
  DataFile(FileSystem* files, const std::string& step_folder, const Manifest* manifest, int index)
      : files_(files),
        manifest_(manifest),
        about_(manifest->files[static_cast<size_t>(index)]),
        path_(absl::StrCat(step_folder, "/", about_.name)) {
    for (size_t i = 0; i < manifest->places.size(); ++i) {
      if (manifest->places[i].file == index) tensors_.push_back(static_cast<int>(i));
    }
    std::stable_sort(tensors_.begin(), tensors_.end(), [this](int a, int b) { return Begin(a) < Begin(b); });
  }

  absl::Status Open() {
    auto file = files_->OpenForRead(path_);
    if (!file.ok()) return CannotRead(file.status(), path_);
    file_ = *std::move(file);
    const auto size = file_->Size();
    if (!size.ok()) return CannotRead(size.status(), path_);
    if (static_cast<int64_t>(*size) != about_.bytes) {
      return absl::DataLossError(
          absl::StrCat(path_, " is damaged: it has ", *size, " bytes, the manifest says ", about_.bytes));
    }
    return absl::OkStatus();
  }

  // Hashes the chunks that hold something that is wanted (or all of them, without `place`), and puts tensors where they belong.
  absl::Status Read(const std::function<std::span<std::byte>(int tensor)>& place) {
    std::vector<Run> wanted;
    if (place) {
      for (const int tensor : tensors_) {
        const std::span<std::byte> target = place(tensor);
        if (target.empty()) continue;
        if (static_cast<int64_t>(target.size()) != Tensor(tensor).bytes()) {
          return absl::InvalidArgumentError(absl::StrCat("tensor \"", Tensor(tensor).name, "\" has ", Tensor(tensor).bytes(),
                                                         " bytes, the place for it ", target.size()));
        }
        wanted.push_back({Begin(tensor), Begin(tensor) + Tensor(tensor).bytes(), target.data()});
      }
      // Tensors that lie over each other cannot be filled in one pass; no writer makes them.
      for (size_t i = 1; i < wanted.size(); ++i) {
        if (wanted[i].begin < wanted[i - 1].end) return absl::DataLossError(absl::StrCat(path_, ": two tensors in one place"));
      }
    }
    size_t next = 0;  // the first run that does not end before the chunk
    for (size_t chunk = 0; chunk < about_.chunk_checksums.size(); ++chunk) {
      const int64_t begin = static_cast<int64_t>(chunk) * kCheckpointChunkBytes;
      const int64_t end = std::min(begin + kCheckpointChunkBytes, about_.bytes);
      while (next < wanted.size() && wanted[next].end <= begin) ++next;
      if (place && (next == wanted.size() || wanted[next].begin >= end)) continue;
      MUSTER_RETURN_IF_ERROR(ReadChunk(begin, end, std::span(wanted).subspan(next), about_.chunk_checksums[chunk]));
    }
    return absl::OkStatus();
  }

  // The file's own header says what the manifest says.
  absl::Status CheckHeader() {
    std::string first(static_cast<size_t>(std::min(kSafetensorsLengthBytes, about_.bytes)), '\0');
    MUSTER_RETURN_IF_ERROR(Fill(0, std::as_writable_bytes(std::span(first))));
    const auto header_bytes = SafetensorsHeaderBytes(first, about_.bytes);
    if (!header_bytes.ok()) return Damaged(header_bytes.status().message());
    std::string header(static_cast<size_t>(*header_bytes), '\0');
    MUSTER_RETURN_IF_ERROR(Fill(0, std::as_writable_bytes(std::span(header))));
    auto entries = ParseSafetensorsHeader(header, about_.bytes);
    if (!entries.ok()) return Damaged(entries.status().message());
    std::map<std::string, SafetensorsEntry> by_name;
    for (SafetensorsEntry& entry : *entries) by_name[entry.tensor.name] = std::move(entry);
    for (const int tensor : tensors_) {
      const auto found = by_name.find(Tensor(tensor).name);
      if (found == by_name.end() || found->second.tensor != Tensor(tensor) || found->second.begin != Begin(tensor)) {
        return Damaged(absl::StrCat("its header does not have tensor \"", Tensor(tensor).name, "\" as the manifest has it"));
      }
    }
    if (by_name.size() != tensors_.size()) return Damaged("its header has tensors that the manifest does not have");
    return absl::OkStatus();
  }

 private:
  const CheckpointTensor& Tensor(int tensor) const { return manifest_->content.tensors[static_cast<size_t>(tensor)]; }
  int64_t Begin(int tensor) const { return manifest_->places[static_cast<size_t>(tensor)].offset; }
  absl::Status Damaged(absl::string_view what) const { return absl::DataLossError(absl::StrCat(path_, " is damaged: ", what)); }

  absl::Status Fill(int64_t offset, std::span<std::byte> bytes) {
    const auto got = file_->ReadAt(static_cast<uint64_t>(offset), bytes);
    if (!got.ok()) return CannotRead(got.status(), path_);
    if (*got != bytes.size()) return Damaged(absl::StrCat("it ends at byte ", offset + static_cast<int64_t>(*got)));
    return absl::OkStatus();
  }

  absl::Status ReadChunk(int64_t begin, int64_t end, std::span<const Run> wanted, uint64_t checksum) {
    XXH3_64bits_reset(state_.get());
    int64_t at = begin;
    while (at < end) {
      while (!wanted.empty() && wanted.front().end <= at) wanted = wanted.subspan(1);
      const bool into = !wanted.empty() && wanted.front().begin <= at;
      const int64_t stop = std::min({end, at + static_cast<int64_t>(kPieceBytes),
                                     wanted.empty() ? end
                                     : into         ? wanted.front().end
                                                    : wanted.front().begin});
      std::span<std::byte> piece;
      if (into) {
        piece = {wanted.front().target + (at - wanted.front().begin), static_cast<size_t>(stop - at)};
      } else {
        scratch_.resize(kPieceBytes);
        piece = std::span(scratch_).first(static_cast<size_t>(stop - at));
      }
      MUSTER_RETURN_IF_ERROR(Fill(at, piece));
      XXH3_64bits_update(state_.get(), piece.data(), piece.size());
      at = stop;
    }
    if (XXH3_64bits_digest(state_.get()) == checksum) return absl::OkStatus();
    return Damaged(absl::StrCat("bytes ", begin, " to ", end - 1, " (", Holds(begin, end), ") do not fit their checksum"));
  }

  // What is in these bytes, in words.
  std::string Holds(int64_t begin, int64_t end) const {
    std::vector<int> there;
    for (const int tensor : tensors_) {
      if (Begin(tensor) < end && Begin(tensor) + Tensor(tensor).bytes() > begin) there.push_back(tensor);
    }
    if (there.empty()) return "the header";
    const std::string header = begin == 0 ? "the header, " : "";
    const std::string first = absl::StrCat("tensor \"", Tensor(there.front()).name, "\" from its byte ",
                                           std::max(begin - Begin(there.front()), int64_t{0}));
    return there.size() == 1 ? header + first : absl::StrCat(header, first, " to \"", Tensor(there.back()).name, "\"");
  }

  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };

  FileSystem* const files_;
  const Manifest* const manifest_;
  const ManifestFile& about_;
  const std::string path_;
  std::vector<int> tensors_;  // of this file, by their places in it
  std::unique_ptr<ReadFile> file_;
  const std::unique_ptr<XXH3_state_t, Free> state_{XXH3_createState()};
  std::vector<std::byte> scratch_;
};

absl::StatusOr<Manifest> ManifestOf(FileSystem& files, const CheckpointEntry& entry) {
  if (!entry.damage.ok()) return entry.damage;
  const auto text = ReadManifestText(files, entry.path);
  if (absl::IsNotFound(text.status())) {
    return absl::DataLossError(absl::StrCat(entry.path, entry.committed ? " was removed meanwhile" : " is an unfinished save"));
  }
  if (!text.ok()) return CannotRead(text.status(), absl::StrCat(entry.path, "/", kManifestName));
  return DecodeManifestOf(entry.path, entry.step, *text);
}

CheckpointEntry EntryOf(FileSystem& files, const std::string& folder, int64_t step) {
  CheckpointEntry entry;
  entry.step = step;
  entry.path = StepFolder(folder, step);
  const auto text = ReadManifestText(files, entry.path);
  entry.committed = !absl::IsNotFound(text.status());
  if (!entry.committed) return entry;
  if (!text.ok()) {
    entry.damage = CannotRead(text.status(), absl::StrCat(entry.path, "/", kManifestName));
    return entry;
  }
  auto manifest = DecodeManifestOf(entry.path, step, *text);
  entry.damage = manifest.status();
  if (!manifest.ok()) return entry;
  for (const ManifestFile& file : manifest->files) entry.bytes += file.bytes;
  entry.files = static_cast<int64_t>(manifest->files.size());
  entry.committed_unix_ms = manifest->committed_unix_ms;
  entry.content = std::move(manifest->content);
  return entry;
}

}  // namespace

absl::StatusOr<std::vector<CheckpointEntry>> ListCheckpoints(FileSystem& files, const std::string& folder) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, StepsIn(files, folder));
  std::vector<CheckpointEntry> entries;
  for (const int64_t step : steps) entries.push_back(EntryOf(files, folder, step));
  return entries;
}

absl::Status VerifyCheckpoint(FileSystem& files, const CheckpointEntry& entry) {
  MUSTER_ASSIGN_OR_RETURN(const Manifest manifest, ManifestOf(files, entry));
  for (size_t i = 0; i < manifest.files.size(); ++i) {
    DataFile file(&files, entry.path, &manifest, static_cast<int>(i));
    MUSTER_RETURN_IF_ERROR(file.Open());
    MUSTER_RETURN_IF_ERROR(file.Read(nullptr));
    MUSTER_RETURN_IF_ERROR(file.CheckHeader());
  }
  return absl::OkStatus();
}

absl::Status ReadCheckpoint(FileSystem& files, const CheckpointEntry& entry,
                            const std::function<std::span<std::byte>(int tensor)>& place) {
  MUSTER_ASSIGN_OR_RETURN(const Manifest manifest, ManifestOf(files, entry));
  if (!entry.content || manifest.content.tensors != entry.content->tensors) {
    return absl::DataLossError(absl::StrCat(entry.path, " was changed since it was listed"));
  }
  for (size_t i = 0; i < manifest.files.size(); ++i) {
    DataFile file(&files, entry.path, &manifest, static_cast<int>(i));
    MUSTER_RETURN_IF_ERROR(file.Open());
    MUSTER_RETURN_IF_ERROR(file.Read(place));
  }
  return absl::OkStatus();
}

}  // namespace muster
