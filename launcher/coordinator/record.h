// The coordinator's record on disk: what must outlive it. Append-only; an entry is written, and durable where that is wanted, before
// anything that follows from it is announced.
//
// FOLDER/record: entries {u32 mark and version, u32 length, u64 checksum, u64 sequence, bytes of a RecordEntry}, little endian;
// the checksum is XXH3 over length, sequence and bytes (https://github.com/Cyan4973/xxHash). At most one entry is not yet
// durable, so a power loss leaves at most a torn tail, which is cut off; a bad entry with a good one behind it is damage and is
// reported. (A damaged last entry cannot be told from a torn one.)
//
// The folder above FOLDER also gets an empty file `.names-are-durable`, once the names on the way there are.
#ifndef MUSTER_LAUNCHER_COORDINATOR_RECORD_H_
#define MUSTER_LAUNCHER_COORDINATOR_RECORD_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "muster/v1/record.pb.h"
#include "runtime/base/file_system.h"

namespace muster {

enum class Durability {
  kPowerLoss,  // an entry outlives the machine's end; an fsync for each
  kProcess,    // an entry outlives the process that wrote it: for a job all of which ends with this machine
};

// Not thread-safe.
class Record {
 public:
  // Reads FOLDER/record and opens it for appending; makes folder, its parents and file where they are missing.
  // Errors: DataLoss (a damaged middle, with file and offset), FailedPrecondition (another coordinator has it open),
  // ResourceExhausted (disk full, read-only or not writable: path and remedy).
  static absl::StatusOr<std::unique_ptr<Record>> Open(FileSystem* files, const std::string& folder,
                                                      Durability durability = Durability::kPowerLoss);

  // What was there on opening, in order.
  const std::vector<v1::RecordEntry>& entries() const { return entries_; }
  // Bytes of a torn tail that were cut off on opening.
  uint64_t torn_bytes() const { return torn_bytes_; }

  // `entry` is as durable as was wanted when this returns OK. After an error every further call fails too.
  // Errors: ResourceExhausted (disk full or not writable: path and remedy).
  absl::Status Append(const v1::RecordEntry& entry);

 private:
  Record(std::string path, std::unique_ptr<AppendFile> file, Durability durability)
      : path_(std::move(path)), durability_(durability), file_(std::move(file)) {}

  std::string path_;
  Durability durability_;
  std::unique_ptr<AppendFile> file_;
  std::vector<v1::RecordEntry> entries_;
  uint64_t next_sequence_ = 0;
  uint64_t torn_bytes_ = 0;
  absl::Status broken_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_COORDINATOR_RECORD_H_
