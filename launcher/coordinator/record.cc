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
absl::Status Unwritable(const absl::Status& status) {
  if (status.ok() || absl::IsDataLoss(status) || absl::IsFailedPrecondition(status)) return status;
  return absl::ResourceExhaustedError(
      absl::StrCat("cannot keep the job's record: ", std::string(status.message()),
                   "; free some space there, or set XDG_STATE_HOME to a folder that can be written"));
}

// Makes `folder` and its parents, each name durable in its parent.
absl::Status MakeFolders(FileSystem* files, const std::string& folder) {
  if (files->Exists(folder)) return absl::OkStatus();
  const size_t slash = folder.find_last_of('/');
  const std::string parent = slash == std::string::npos ? "." : slash == 0 ? "/" : folder.substr(0, slash);
  if (parent != folder) MUSTER_RETURN_IF_ERROR(MakeFolders(files, parent));
  const absl::Status made = files->MakeFolder(folder);
  if (!made.ok() && !absl::IsAlreadyExists(made)) return made;
  return files->SyncFolder(parent);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Record>> Record::Open(FileSystem* files, const std::string& folder) {
  const std::string path = folder + "/record";
  MUSTER_RETURN_IF_ERROR(Unwritable(MakeFolders(files, folder)));
  auto file = files->OpenForAppend(path);
  if (!file.ok()) return Unwritable(file.status());
  // Also when the file is not new: whoever made it may have lost power before this.
  MUSTER_RETURN_IF_ERROR(Unwritable(files->SyncFolder(folder)));
  const auto bytes = files->Read(path);
  if (!bytes.ok()) return Unwritable(bytes.status());
  MUSTER_ASSIGN_OR_RETURN(Contents contents, Parse(*bytes, path));

  std::unique_ptr<Record> record(new Record(path, *std::move(file)));
  record->torn_bytes_ = bytes->size() - contents.good_bytes;
  record->next_sequence_ = contents.entries.size();
  record->entries_ = std::move(contents.entries);
  // Needs no fsync of its own: the next entry's covers it, and until then the tail is as torn as before.
  if (record->torn_bytes_ > 0) MUSTER_RETURN_IF_ERROR(Unwritable(record->file_->Truncate(contents.good_bytes)));
  return record;
}

absl::Status Record::Append(const v1::RecordEntry& entry) {
  if (!broken_.ok()) return broken_;
  absl::Status status = file_->Write(Frame(next_sequence_, entry.SerializeAsString()));
  if (status.ok()) status = file_->Sync();
  if (!status.ok()) return broken_ = Unwritable(status);
  ++next_sequence_;
  return absl::OkStatus();
}

}  // namespace muster
