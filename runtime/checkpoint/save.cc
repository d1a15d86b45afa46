#include "runtime/checkpoint/save.h"

#include <xxhash.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "runtime/base/status.h"
#include "runtime/checkpoint/folder.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/names.h"
#include "runtime/checkpoint/safetensors.h"

namespace muster {
namespace {

// What is written and hashed at a time: small enough to be in the cache still when it is hashed.
constexpr int64_t kPieceBytes = int64_t{1} << 20;
static_assert(kCheckpointChunkBytes % kPieceBytes == 0);
// Smaller ones are gathered before they are written.
constexpr size_t kGatheredBytes = size_t{64} << 10;

absl::Status CannotWrite(const absl::Status& status, const std::string& path) {
  if (status.ok()) return status;
  return absl::ResourceExhaustedError(absl::StrCat("cannot write the checkpoint ", path, ": ", status.message(),
                                                   "; free some space there, or give a checkpoint folder that can be written"));
}

absl::Status MakeFolders(FileSystem& files, const std::string& folder) {
  if (folder.empty() || files.Exists(folder)) return absl::OkStatus();
  if (ParentFolder(folder) != folder) MUSTER_RETURN_IF_ERROR(MakeFolders(files, ParentFolder(folder)));
  const absl::Status made = files.MakeFolder(folder);
  return absl::IsAlreadyExists(made) ? absl::OkStatus() : made;
}

// Makes the names of `folder` and of all above it durable. A folder that may not be read was not made by us.
absl::Status SyncParents(FileSystem& files, std::string folder) {
  while (folder != "/" && folder != ".") {
    folder = ParentFolder(folder);
    const absl::Status synced = files.SyncFolder(folder);
    if (!synced.ok() && !absl::IsPermissionDenied(synced)) return synced;
  }
  return absl::OkStatus();
}

bool HasManifest(FileSystem& files, const std::string& step_folder) {
  return files.Exists(absl::StrCat(step_folder, "/", kManifestName));
}

absl::StatusOr<bool> AnyCommitted(FileSystem& files, const std::string& folder) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, StepsIn(files, folder));
  return std::any_of(steps.begin(), steps.end(), [&](int64_t step) { return HasManifest(files, StepFolder(folder, step)); });
}

absl::Status AlreadyCommitted(const std::string& step_folder) {
  return absl::AlreadyExistsError(absl::StrCat(step_folder, " is a complete checkpoint already"));
}

// Makes step_folder and the empty manifest-to-be in it.
absl::Status MakeManifestToBe(FileSystem& files, const std::string& step_folder, const SaveName& save) {
  constexpr int kTriesMax = 16;
  const std::string path = absl::StrCat(step_folder, "/", ManifestToBeName(save));
  absl::Status created;
  for (int i = 0; i < kTriesMax; ++i) {
    const absl::Status made = files.MakeFolder(step_folder);
    if (!made.ok() && !absl::IsAlreadyExists(made)) return CannotWrite(made, step_folder);
    created = files.CreateExclusive(path).status();
    if (!absl::IsNotFound(created)) break;  // else somebody who tidies up has removed the folder in between
  }
  if (!absl::IsAlreadyExists(created)) return CannotWrite(created, path);
  return absl::FailedPreconditionError(absl::StrCat(path, " is there already; every save needs a save_id of its own"));
}

// Writes a file and hashes it on the way. What is large goes to the disk straight from the caller's memory.
class ChunkedWriter {
 public:
  explicit ChunkedWriter(AppendFile* file) : file_(file), state_(XXH3_createState()) { XXH3_64bits_reset(state_.get()); }

  absl::Status Write(std::span<const std::byte> bytes) {
    if (bytes.size() < kGatheredBytes) {
      if (gathered_.size() + bytes.size() > kGatheredBytes) MUSTER_RETURN_IF_ERROR(Flush());
      gathered_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      return absl::OkStatus();
    }
    MUSTER_RETURN_IF_ERROR(Flush());
    return WriteThrough({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }

  absl::Status Flush() {
    MUSTER_RETURN_IF_ERROR(WriteThrough(gathered_));
    gathered_.clear();
    return absl::OkStatus();
  }

  // After the last Flush.
  WrittenFile Finish() {
    if (in_chunk_ > 0) EndChunk();
    return std::move(written_);
  }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };

  absl::Status WriteThrough(absl::string_view bytes) {
    while (!bytes.empty()) {
      const int64_t room = std::min(kPieceBytes, kCheckpointChunkBytes - in_chunk_);
      const absl::string_view piece = bytes.substr(0, static_cast<size_t>(room));
      MUSTER_RETURN_IF_ERROR(file_->Write(piece));
      XXH3_64bits_update(state_.get(), piece.data(), piece.size());
      in_chunk_ += static_cast<int64_t>(piece.size());
      if (in_chunk_ == kCheckpointChunkBytes) EndChunk();
      bytes.remove_prefix(piece.size());
    }
    return absl::OkStatus();
  }

  void EndChunk() {
    written_.chunk_checksums.push_back(XXH3_64bits_digest(state_.get()));
    XXH3_64bits_reset(state_.get());
    in_chunk_ = 0;
  }

  AppendFile* const file_;
  const std::unique_ptr<XXH3_state_t, Free> state_;
  std::string gathered_;
  int64_t in_chunk_ = 0;
  WrittenFile written_;
};

absl::Status WriteTensors(const CheckpointContent& content, const CheckpointFilePlan& plan,
                          const std::function<std::span<const std::byte>(int tensor)>& data, ChunkedWriter* writer) {
  const std::string header = SafetensorsHeader(content, plan);
  MUSTER_RETURN_IF_ERROR(writer->Write(std::as_bytes(std::span(header))));
  for (const int place : plan.tensors) {
    MUSTER_RETURN_IF_ERROR(writer->Write(data(place)));
  }
  return writer->Flush();
}

absl::Status CheckSizes(const CheckpointContent& content, const CheckpointFilePlan& plan,
                        const std::function<std::span<const std::byte>(int tensor)>& data) {
  for (const int place : plan.tensors) {
    const CheckpointTensor& tensor = content.tensors[static_cast<size_t>(place)];
    if (static_cast<int64_t>(data(place).size()) != tensor.bytes()) {
      return absl::InvalidArgumentError(absl::StrCat("tensor \"", tensor.name, "\" was given ", data(place).size(),
                                                     " bytes, its shape needs ", tensor.bytes()));
    }
  }
  return absl::OkStatus();
}

// OK when the file is there with all its bytes.
absl::Status CheckFileIsThere(FileSystem& files, const std::string& path, int64_t bytes) {
  const auto file = files.OpenForRead(path);
  if (absl::IsNotFound(file.status())) {
    return absl::NotFoundError(absl::StrCat(path,
                                            " was written by another node and is not to be seen from this one; "
                                            "give a checkpoint folder that all nodes share"));
  }
  if (!file.ok()) return CannotWrite(file.status(), path);
  const auto size = (*file)->Size();
  if (!size.ok()) return CannotWrite(size.status(), path);
  if (static_cast<int64_t>(*size) != bytes) {
    return absl::NotFoundError(absl::StrCat(path, " was written with ", bytes, " bytes and is seen with ", *size,
                                            " from here; give a checkpoint folder that all nodes share"));
  }
  return absl::OkStatus();
}

absl::Status CheckWritten(const std::vector<CheckpointFilePlan>& plan, const std::vector<WrittenFile>& written) {
  bool fits = plan.size() == written.size();
  for (size_t i = 0; fits && i < plan.size(); ++i) {
    fits = static_cast<int64_t>(written[i].chunk_checksums.size()) == ChunksOf(plan[i]);
  }
  return fits ? absl::OkStatus()
              : absl::InvalidArgumentError("CommitSave was not given the checksums of each file of the plan");
}

}  // namespace

int64_t ChunksOf(const CheckpointFilePlan& plan) { return ChunksOfBytes(plan.bytes); }

absl::Status StartSave(FileSystem& files, const std::string& folder_given, const CheckpointContent& content) {
  MUSTER_RETURN_IF_ERROR(CheckContent(content));
  const std::string folder = TrimFolder(folder_given);
  const std::string step_folder = StepFolder(folder, content.step);
  MUSTER_RETURN_IF_ERROR(CannotWrite(MakeFolders(files, folder), folder));
  if (HasManifest(files, step_folder)) return AlreadyCommitted(step_folder);
  // For space. What cannot be removed does not stand in the way: no name is used twice.
  static_cast<void>(RemoveUnfinishedSaves(files, folder, content));
  MUSTER_RETURN_IF_ERROR(MakeManifestToBe(files, step_folder, SaveOf(content)));
  // Also when the folders are not new: whoever made them may have died before this. A committed checkpoint shows that the names
  // above are durable.
  const auto committed = AnyCommitted(files, folder);
  if (!committed.ok()) return CannotWrite(committed.status(), folder);
  MUSTER_RETURN_IF_ERROR(CannotWrite(files.SyncFolder(folder), folder));
  if (!*committed) MUSTER_RETURN_IF_ERROR(CannotWrite(SyncParents(files, folder), folder));
  return absl::OkStatus();
}

absl::StatusOr<WrittenFile> WriteCheckpointFile(FileSystem& files, const std::string& folder, const CheckpointContent& content,
                                                const std::vector<CheckpointFilePlan>& plan, int index,
                                                const std::function<std::span<const std::byte>(int tensor)>& data,
                                                const std::function<void()>& read) {
  absl::Cleanup release = [&read] {
    if (read) read();
  };
  const CheckpointFilePlan& file_plan = plan[static_cast<size_t>(index)];
  MUSTER_RETURN_IF_ERROR(CheckSizes(content, file_plan, data));
  const std::string step_folder = StepFolder(folder, content.step);
  const std::string path = absl::StrCat(step_folder, "/", DataFileName(SaveOf(content), index));
  const absl::Status unseen =
      absl::NotFoundError(absl::StrCat(step_folder,
                                       " is not to be seen from this node; give a checkpoint folder that all nodes share (or "
                                       "this save was given up and removed)"));
  auto file = files.CreateExclusive(path);
  if (absl::IsNotFound(file.status())) return unseen;
  if (!file.ok()) return CannotWrite(file.status(), path);
  ChunkedWriter writer(file->get());
  absl::Status status = WriteTensors(content, file_plan, data, &writer);
  std::move(release).Invoke();
  if (status.ok()) status = (*file)->Sync();
  if (status.ok()) status = files.SyncFolder(step_folder);
  if (!status.ok()) {
    static_cast<void>(files.Unlink(path));  // gives the space back; what is left is removed by the next save
    return absl::IsNotFound(status) ? unseen : CannotWrite(status, path);
  }
  return writer.Finish();
}

absl::Status CommitSave(FileSystem& files, const std::string& folder, const CheckpointContent& content,
                        const std::vector<CheckpointFilePlan>& plan, const std::vector<WrittenFile>& written) {
  MUSTER_RETURN_IF_ERROR(CheckContent(content));
  MUSTER_RETURN_IF_ERROR(CheckWritten(plan, written));
  const std::string step_folder = StepFolder(folder, content.step);
  const std::string to_be = absl::StrCat(step_folder, "/", ManifestToBeName(SaveOf(content)));
  const std::string manifest = absl::StrCat(step_folder, "/", kManifestName);
  const absl::Status pruned = absl::AbortedError(
      absl::StrCat("the save of step ", content.step, " by generation ", content.generation, " was given up by a later one"));

  auto file = files.OpenExisting(to_be);
  if (absl::IsNotFound(file.status())) return pruned;
  if (!file.ok()) return CannotWrite(file.status(), to_be);
  for (size_t i = 0; i < plan.size(); ++i) {
    const std::string path = absl::StrCat(step_folder, "/", DataFileName(SaveOf(content), static_cast<int>(i)));
    const absl::Status there = CheckFileIsThere(files, path, plan[i].bytes);
    if (!there.ok()) return files.Exists(to_be) ? there : pruned;
  }
  const std::string text = EncodeManifest(MakeManifest(content, plan, written, absl::ToUnixMillis(absl::Now())));
  if (static_cast<int64_t>(text.size()) > kManifestBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("the manifest of ", content.tensors.size(), " tensors would have ",
                                                   text.size(), " bytes; ", kManifestBytesMax, " are possible"));
  }
  absl::Status status = (*file)->Write(text);
  if (status.ok()) status = (*file)->Sync();
  if (!status.ok()) return CannotWrite(status, to_be);
  status = files.RenameNew(to_be, manifest);
  if (absl::IsNotFound(status)) return pruned;
  if (absl::IsAlreadyExists(status)) {
    return absl::AbortedError(absl::StrCat(step_folder, " was completed by another generation or job meanwhile"));
  }
  if (status.ok()) status = files.SyncFolder(step_folder);
  return CannotWrite(status, manifest);
}

}  // namespace muster
