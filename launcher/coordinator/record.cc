#include "launcher/coordinator/record.h"

#include <endian.h>
#include <string.h>
#include <xxhash.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr uint32_t kMark = 0x0163654d;  // the top byte is the format's version
constexpr size_t kFrameBytes = 24;      // mark, length, checksum, sequence
constexpr size_t kEntryBytesMax = 64 << 20;

void Put32(std::string& out, uint32_t value) {
  value = htole32(value);
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void Put64(std::string& out, uint64_t value) {
  value = htole64(value);
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
uint32_t Get32(absl::string_view bytes, size_t offset) {
  uint32_t value;
  memcpy(&value, bytes.data() + offset, sizeof value);
  return le32toh(value);
}
uint64_t Get64(absl::string_view bytes, size_t offset) {
  uint64_t value;
  memcpy(&value, bytes.data() + offset, sizeof value);
  return le64toh(value);
}

uint64_t Checksum(uint64_t sequence, absl::string_view body) {
  std::string covered;
  covered.reserve(body.size() + 12);
  Put32(covered, static_cast<uint32_t>(body.size()));
  Put64(covered, sequence);
  covered.append(body.data(), body.size());
  return XXH3_64bits(covered.data(), covered.size());
}

std::string Frame(uint64_t sequence, const std::string& body) {
  std::string frame;
  Put32(frame, kMark);
  Put32(frame, static_cast<uint32_t>(body.size()));
  Put64(frame, Checksum(sequence, body));
  Put64(frame, sequence);
  return frame + body;
}

struct Framed {
  uint64_t sequence = 0;
  absl::string_view body;
};

// The whole and undamaged entry at `offset`, if there is one.
std::optional<Framed> EntryAt(absl::string_view bytes, size_t offset) {
  if (bytes.size() - offset < kFrameBytes || Get32(bytes, offset) != kMark) return std::nullopt;
  const uint32_t length = Get32(bytes, offset + 4);
  if (length > kEntryBytesMax || bytes.size() - offset - kFrameBytes < length) return std::nullopt;
  const uint64_t sequence = Get64(bytes, offset + 16);
  const absl::string_view body = bytes.substr(offset + kFrameBytes, length);
  if (Get64(bytes, offset + 8) != Checksum(sequence, body)) return std::nullopt;
  return Framed{sequence, body};
}

bool AnyEntryBehind(absl::string_view bytes, size_t offset) {
  for (size_t at = offset + 1; at + kFrameBytes <= bytes.size(); ++at) {
    if (EntryAt(bytes, at)) return true;
  }
  return false;
}

struct Contents {
  std::vector<v1::RecordEntry> entries;
  size_t good_bytes = 0;  // what follows is a torn tail
};

absl::StatusOr<Contents> Parse(absl::string_view bytes, const std::string& path) {
  Contents contents;
  const auto damaged = [&path](size_t offset, absl::string_view what) {
    return absl::DataLossError(absl::StrCat(path, " is damaged at byte ", offset, ": ", what,
                                            "; restore the file from a copy, or move it away to start the job anew"));
  };
  size_t offset = 0;
  while (offset < bytes.size()) {
    const std::optional<Framed> framed = EntryAt(bytes, offset);
    if (!framed) break;
    if (framed->sequence != contents.entries.size()) {
      return damaged(offset, absl::StrCat("entry ", framed->sequence, " stands where ", contents.entries.size(), " belongs"));
    }
    v1::RecordEntry entry;
    if (!entry.ParseFromArray(framed->body.data(), static_cast<int>(framed->body.size()))) {
      return damaged(offset, "the checksum is right, but it is no entry this version knows");
    }
    contents.entries.push_back(std::move(entry));
    offset += kFrameBytes + framed->body.size();
  }
  if (offset < bytes.size() && AnyEntryBehind(bytes, offset)) return damaged(offset, "whole entries stand behind this one");
  contents.good_bytes = offset;
  return contents;
}

// DataLoss and FailedPrecondition stay what they are; all else means that state cannot be kept there.
absl::Status Unwritable(const absl::Status& status, const std::string& path) {
  if (status.ok() || absl::IsDataLoss(status) || absl::IsFailedPrecondition(status)) return status;
  return absl::ResourceExhaustedError(
      absl::StrCat("cannot keep the job's record in ", path, ": ", std::string(status.message()),
                   "; free some space there, or set XDG_STATE_HOME to a folder that can be written"));
}

std::string ParentOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status MakeFolders(FileSystem* files, const std::string& folder) {
  if (files->Exists(folder)) return absl::OkStatus();
  if (ParentOf(folder) != folder) MUSTER_RETURN_IF_ERROR(MakeFolders(files, ParentOf(folder)));
  const absl::Status made = files->MakeFolder(folder);
  return absl::IsAlreadyExists(made) ? absl::OkStatus() : made;
}

// Makes every name on the way to the record durable. A folder that may not be read was not made by us. Each fsync may wait for the
// disk, and a job's start for each of them: those above are left out where an older job has left word that it saw to them.
absl::Status SyncFolders(FileSystem* files, std::string folder) {
  const std::string word = ParentOf(folder) + "/.names-are-durable";
  const bool above_is_durable = files->Exists(word);
  for (int i = 0;; ++i) {
    const absl::Status synced = files->SyncFolder(folder);
    if (!synced.ok() && !absl::IsPermissionDenied(synced)) return synced;
    if (folder == "/" || folder == "." || (above_is_durable && i == 1)) break;
    folder = ParentOf(folder);
  }
  if (!above_is_durable) (void)files->CreateExclusive(word);  // without it the next job's start is a little slower
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Record>> Record::Open(FileSystem* files, const std::string& folder, Durability durability) {
  const std::string path = folder + "/record";
  MUSTER_RETURN_IF_ERROR(Unwritable(MakeFolders(files, folder), path));
  auto file = files->OpenForAppend(path);
  if (!file.ok()) return Unwritable(file.status(), path);
  const auto bytes = files->Read(path);
  if (!bytes.ok()) return Unwritable(bytes.status(), path);
  MUSTER_ASSIGN_OR_RETURN(Contents contents, Parse(*bytes, path));
  // Also when file and folders are not new: whoever made them may have died before this. An entry shows that it did not.
  if (contents.entries.empty() && durability == Durability::kPowerLoss) {
    MUSTER_RETURN_IF_ERROR(Unwritable(SyncFolders(files, folder), path));
  }

  std::unique_ptr<Record> record(new Record(path, *std::move(file), durability));
  record->torn_bytes_ = bytes->size() - contents.good_bytes;
  record->next_sequence_ = contents.entries.size();
  record->entries_ = std::move(contents.entries);
  // Needs no fsync of its own: the next entry's covers it, and until then the tail is as torn as before.
  if (record->torn_bytes_ > 0) MUSTER_RETURN_IF_ERROR(Unwritable(record->file_->Truncate(contents.good_bytes), path));
  return record;
}

absl::Status Record::Append(const v1::RecordEntry& entry) {
  if (!broken_.ok()) return broken_;
  absl::Status status = file_->Write(Frame(next_sequence_, entry.SerializeAsString()));
  if (status.ok() && durability_ == Durability::kPowerLoss) status = file_->Sync();
  if (!status.ok()) return broken_ = Unwritable(status, path_);
  ++next_sequence_;
  return absl::OkStatus();
}

}  // namespace muster
