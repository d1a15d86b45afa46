// Files as the coordinator's record and checkpoints need them: a seam, so that tests can log every write, stop before any
// operation, and take the power away.
#ifndef MUSTER_RUNTIME_BASE_FILE_SYSTEM_H_
#define MUSTER_RUNTIME_BASE_FILE_SYSTEM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

// An open file, written at its end. Closed when destroyed. Not thread-safe.
class AppendFile {
 public:
  virtual ~AppendFile() = default;
  // All of `bytes`, or an error (ResourceExhausted: the disk is full); after an error some of them may be there.
  virtual absl::Status Write(absl::string_view bytes) = 0;
  virtual absl::Status Truncate(uint64_t bytes) = 0;
  // What was written and the length survive a power loss when this has returned OK. After an error nothing more may be assumed
  // of the file: the kernel drops what it could not write.
  virtual absl::Status Sync() = 0;
};

// A file that is read in place. Closed when destroyed. Not thread-safe.
class ReadFile {
 public:
  virtual ~ReadFile() = default;
  virtual absl::StatusOr<uint64_t> Size() = 0;
  // Fills `bytes` from `offset` on; returns how many there were, fewer only at the file's end.
  virtual absl::StatusOr<size_t> ReadAt(uint64_t offset, std::span<std::byte> bytes) = 0;
};

// Errors name the path. Names of files, folders and renames survive a power loss after SyncFolder of the folder that holds
// them.
class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual bool Exists(const std::string& path) = 0;
  virtual absl::StatusOr<std::string> Read(const std::string& path) = 0;
  // Makes the file if there is none. Errors: FailedPrecondition when another process has it open by this method.
  virtual absl::StatusOr<std::unique_ptr<AppendFile>> OpenForAppend(const std::string& path) = 0;
  // Makes the file; mode by umask. Errors: AlreadyExists.
  virtual absl::StatusOr<std::unique_ptr<AppendFile>> CreateExclusive(const std::string& path) = 0;
  // Never makes one. Errors: NotFound.
  virtual absl::StatusOr<std::unique_ptr<AppendFile>> OpenExisting(const std::string& path) = 0;
  // Errors: Internal when it is no regular file.
  virtual absl::StatusOr<std::unique_ptr<ReadFile>> OpenForRead(const std::string& path) = 0;
  // One folder; its parent must be there. Mode by umask.
  virtual absl::Status MakeFolder(const std::string& path) = 0;
  virtual absl::Status SyncFolder(const std::string& path) = 0;
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  // Never replaces, in one step: of several that rename to one name, one succeeds. Errors: AlreadyExists, NotFound.
  virtual absl::Status RenameNew(const std::string& from, const std::string& to) = 0;
  // Errors: FailedPrecondition when it is not empty.
  virtual absl::Status RemoveFolder(const std::string& path) = 0;
  virtual absl::Status Unlink(const std::string& path) = 0;
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& folder) = 0;  // names of files and folders, sorted
};

// The machine's own, by POSIX calls. Lives as long as the program.
FileSystem& PosixFileSystem();

}  // namespace muster

#endif  // MUSTER_RUNTIME_BASE_FILE_SYSTEM_H_
