// A file system in memory that logs what reaches the disk, and what a power loss may leave of it.
//
// The model: a write, truncation, new name, rename or removal is done at once for the running program and kept by the disk only
// after an fsync: of the file for its bytes and length, of the folder for its names. Before that each may be kept, dropped or
// (a write) kept in part, whatever happens to the others, in any order.
#ifndef MUSTER_TESTS_SUPPORT_RECORDING_FILE_SYSTEM_H_
#define MUSTER_TESTS_SUPPORT_RECORDING_FILE_SYSTEM_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/file_system.h"

namespace muster {

// Files and folders by path, as a disk holds them. A folder that is not named in its parent is not there, nor what it holds.
struct Disk {
  std::map<std::string, std::string> files;
  std::set<std::string> folders = {"/"};
};

// One line of the log.
struct DiskOperation {
  enum class Kind {
    kMakeFolder,
    kRemoveFolder,
    kCreate,
    kWrite,
    kTruncate,
    kSync,
    kSyncFolder,
    kRename,
    kLink,
    kUnlink,
    kAnnounce
  };
  Kind kind = Kind::kWrite;
  std::string path;     // kAnnounce: what was announced
  std::string to;       // kRename, kLink
  std::string bytes;    // kWrite
  uint64_t offset = 0;  // kWrite: where; kTruncate: the new length
};

class RecordingFileSystem : public FileSystem {
 public:
  explicit RecordingFileSystem(Disk disk = {}) : disk_(std::move(disk)), before_(disk_) {}

  // Marks the log: from here on the program has told others of `what`.
  void Announce(const std::string& what) { Log({DiskOperation::Kind::kAnnounce, what, "", "", 0}); }
  // Every operation that may need space, from the `count`th on, fails with ENOSPC; -1: none. `times` of them, then there is
  // space again; -1: never.
  void FailFrom(int count, int times = -1) {
    fail_from_ = count;
    fail_times_ = times;
    operations_ = 0;
  }
  // Called at the beginning of every operation, reads included, with its name and path; what it does to these files happens
  // before the operation. It is not called for operations of its own, and may keep its thread waiting while others go on.
  void OnEach(std::function<void(const std::string& operation)> hook) { hook_ = std::move(hook); }
  // RenameNew links and unlinks, as on file systems without RENAME_NOREPLACE.
  void RenameByLink() { rename_by_link_ = true; }

  const std::vector<DiskOperation>& log() const { return log_; }
  const Disk& before() const { return before_; }
  const Disk& disk() const { return disk_; }

  bool Exists(const std::string& path) override;
  absl::StatusOr<std::string> Read(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<AppendFile>> OpenForAppend(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<AppendFile>> CreateExclusive(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<AppendFile>> OpenExisting(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<ReadFile>> OpenForRead(const std::string& path) override;
  absl::Status MakeFolder(const std::string& path) override;
  absl::Status RemoveFolder(const std::string& path) override;
  absl::Status SyncFolder(const std::string& path) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status RenameNew(const std::string& from, const std::string& to) override;
  absl::Status Unlink(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& folder) override;

 private:
  class File;
  class Reader;
  void Log(DiskOperation operation) { log_.push_back(std::move(operation)); }
  void Call(const char* operation, const std::string& path);
  absl::Status Full(const std::string& path);
  absl::StatusOr<std::unique_ptr<AppendFile>> Create(const std::string& path);
  // The one name of the file that was opened as `inode`; null: it has none any more.
  std::string* PathOf(int inode);
  void Move(const std::string& from, const std::string& to);

  Disk disk_;
  std::map<int, std::string> paths_;  // by inode, of what was opened here
  int inodes_ = 0;
  std::function<void(const std::string&)> hook_;
  static thread_local bool in_hook_;
  bool rename_by_link_ = false;
  Disk before_;
  std::vector<DiskOperation> log_;
  int fail_from_ = -1;
  int fail_times_ = -1;
  int operations_ = 0;
};

// Calls `check` with every disk that a power loss after the first `count` operations of `log` may leave, starting from
// `before`; at most `states_max` of them, sampled by `seed` where there are more. Returns how many it showed.
int ForEachPowerLoss(const Disk& before, const std::vector<DiskOperation>& log, size_t count, int states_max, uint64_t seed,
                     const std::function<void(const Disk&)>& check);

}  // namespace muster

#endif  // MUSTER_TESTS_SUPPORT_RECORDING_FILE_SYSTEM_H_
