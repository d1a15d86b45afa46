#include "tests/support/recording_file_system.h"

#include <errno.h>
#include <string.h>

#include <algorithm>
#include <random>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {

using Kind = DiskOperation::Kind;

// Writes go to the file that was opened, whatever its name is by now; those to a file without a name change nothing.
class RecordingFileSystem::File : public AppendFile {
 public:
  File(RecordingFileSystem* files, int inode) : files_(files), inode_(inode) {}

  absl::Status Write(absl::string_view bytes) override {
    const std::string* const path = Called("write");
    if (absl::Status full = files_->Full(path == nullptr ? "" : *path); !full.ok()) return full;
    if (path == nullptr) return absl::OkStatus();
    std::string& file = files_->disk_.files[*path];
    files_->Log({Kind::kWrite, *path, "", std::string(bytes), file.size()});
    file.append(bytes.data(), bytes.size());
    return absl::OkStatus();
  }
  absl::Status Truncate(uint64_t bytes) override {
    const std::string* const path = Called("truncate");
    if (absl::Status full = files_->Full(path == nullptr ? "" : *path); !full.ok()) return full;
    if (path == nullptr) return absl::OkStatus();
    files_->Log({Kind::kTruncate, *path, "", "", bytes});
    files_->disk_.files[*path].resize(bytes);
    return absl::OkStatus();
  }
  absl::Status Sync() override {
    const std::string* const path = Called("fsync");
    if (absl::Status full = files_->Full(path == nullptr ? "" : *path); !full.ok()) return full;
    if (path != nullptr) files_->Log({Kind::kSync, *path, "", "", 0});
    return absl::OkStatus();
  }

 private:
  const std::string* Called(const char* operation) {
    const std::string* const before = files_->PathOf(inode_);
    files_->Call(operation, before == nullptr ? "(removed)" : *before);
    return files_->PathOf(inode_);
  }

  RecordingFileSystem* const files_;
  const int inode_;
};

class RecordingFileSystem::Reader : public ReadFile {
 public:
  Reader(RecordingFileSystem* files, std::string path, std::string bytes)
      : files_(files), path_(std::move(path)), bytes_(std::move(bytes)) {}

  absl::StatusOr<uint64_t> Size() override {
    files_->Call("size", path_);
    return bytes_.size();
  }
  absl::StatusOr<size_t> ReadAt(uint64_t offset, std::span<std::byte> bytes) override {
    files_->Call("read", path_);
    if (offset >= bytes_.size()) return size_t{0};
    const size_t count = std::min<size_t>(bytes.size(), bytes_.size() - offset);
    memcpy(bytes.data(), bytes_.data() + offset, count);
    return count;
  }

 private:
  RecordingFileSystem* const files_;
  const std::string path_;
  const std::string bytes_;  // as it was on opening: nothing here changes a file that others read
};

namespace {

std::string ParentOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

thread_local bool RecordingFileSystem::in_hook_ = false;

void RecordingFileSystem::Call(const char* operation, const std::string& path) {
  if (!hook_ || in_hook_) return;
  in_hook_ = true;
  hook_(absl::StrCat(operation, " ", path));
  in_hook_ = false;
}

absl::Status RecordingFileSystem::Full(const std::string& path) {
  if (in_hook_ || fail_from_ < 0) return absl::OkStatus();
  const int operation = operations_++;
  const bool fails = operation >= fail_from_ && (fail_times_ < 0 || operation < fail_from_ + fail_times_);
  return fails ? ErrnoToStatus(ENOSPC, absl::StrCat("write ", path)) : absl::OkStatus();
}

std::string* RecordingFileSystem::PathOf(int inode) {
  const auto found = paths_.find(inode);
  return found == paths_.end() ? nullptr : &found->second;
}

bool RecordingFileSystem::Exists(const std::string& path) {
  Call("exists", path);
  return disk_.files.contains(path) || disk_.folders.contains(path);
}

absl::StatusOr<std::string> RecordingFileSystem::Read(const std::string& path) {
  Call("read", path);
  if (!disk_.files.contains(path)) return ErrnoToStatus(ENOENT, absl::StrCat("open ", path));
  return disk_.files[path];
}

absl::StatusOr<std::unique_ptr<AppendFile>> RecordingFileSystem::Create(const std::string& path) {
  if (!disk_.folders.contains(ParentOf(path))) return ErrnoToStatus(ENOENT, absl::StrCat("open ", path));
  if (!disk_.files.contains(path)) {
    if (absl::Status full = Full(path); !full.ok()) return full;
    Log({Kind::kCreate, path, "", "", 0});
    disk_.files[path] = "";
  }
  paths_[++inodes_] = path;
  return std::make_unique<File>(this, inodes_);
}

absl::StatusOr<std::unique_ptr<AppendFile>> RecordingFileSystem::OpenForAppend(const std::string& path) {
  Call("open", path);
  return Create(path);
}

absl::StatusOr<std::unique_ptr<AppendFile>> RecordingFileSystem::CreateExclusive(const std::string& path) {
  Call("create", path);
  if (disk_.files.contains(path) || disk_.folders.contains(path)) return ErrnoToStatus(EEXIST, absl::StrCat("create ", path));
  return Create(path);
}

absl::StatusOr<std::unique_ptr<AppendFile>> RecordingFileSystem::OpenExisting(const std::string& path) {
  Call("open", path);
  if (!disk_.files.contains(path)) return ErrnoToStatus(ENOENT, absl::StrCat("open ", path));
  return Create(path);
}

absl::StatusOr<std::unique_ptr<ReadFile>> RecordingFileSystem::OpenForRead(const std::string& path) {
  Call("open", path);
  if (!disk_.files.contains(path)) return ErrnoToStatus(ENOENT, absl::StrCat("open ", path));
  return std::make_unique<Reader>(this, path, disk_.files[path]);
}

absl::Status RecordingFileSystem::MakeFolder(const std::string& path) {
  Call("mkdir", path);
  if (disk_.files.contains(path) || disk_.folders.contains(path)) return ErrnoToStatus(EEXIST, absl::StrCat("mkdir ", path));
  if (!disk_.folders.contains(ParentOf(path))) return ErrnoToStatus(ENOENT, absl::StrCat("mkdir ", path));
  if (absl::Status full = Full(path); !full.ok()) return full;
  Log({Kind::kMakeFolder, path, "", "", 0});
  disk_.folders.insert(path);
  return absl::OkStatus();
}

absl::Status RecordingFileSystem::RemoveFolder(const std::string& path) {
  Call("rmdir", path);
  if (!disk_.folders.contains(path)) return ErrnoToStatus(ENOENT, absl::StrCat("rmdir ", path));
  for (const auto& [file, bytes] : disk_.files) {
    if (ParentOf(file) == path) return absl::FailedPreconditionError(absl::StrCat("rmdir ", path, ": not empty"));
  }
  for (const std::string& folder : disk_.folders) {
    if (folder != "/" && ParentOf(folder) == path) {
      return absl::FailedPreconditionError(absl::StrCat("rmdir ", path, ": not empty"));
    }
  }
  Log({Kind::kRemoveFolder, path, "", "", 0});
  disk_.folders.erase(path);
  return absl::OkStatus();
}

absl::Status RecordingFileSystem::SyncFolder(const std::string& path) {
  Call("fsync", path);
  if (!disk_.folders.contains(path)) return ErrnoToStatus(ENOENT, absl::StrCat("open ", path));
  if (absl::Status full = Full(path); !full.ok()) return full;
  Log({Kind::kSyncFolder, path, "", "", 0});
  return absl::OkStatus();
}

void RecordingFileSystem::Move(const std::string& from, const std::string& to) {
  Log({Kind::kRename, from, to, "", 0});
  disk_.files[to] = disk_.files[from];
  disk_.files.erase(from);
  for (auto& [inode, path] : paths_) {
    if (path == to) path.clear();  // replaced
    if (path == from) path = to;
  }
  std::erase_if(paths_, [](const auto& named) { return named.second.empty(); });
}

absl::Status RecordingFileSystem::Rename(const std::string& from, const std::string& to) {
  Call("rename", from);
  if (!disk_.files.contains(from)) return ErrnoToStatus(ENOENT, absl::StrCat("rename ", from));
  Move(from, to);
  return absl::OkStatus();
}

absl::Status RecordingFileSystem::RenameNew(const std::string& from, const std::string& to) {
  Call("rename", from);
  if (!disk_.files.contains(from)) return ErrnoToStatus(ENOENT, absl::StrCat("rename ", from));
  if (disk_.files.contains(to)) return ErrnoToStatus(EEXIST, absl::StrCat("rename ", from, " to ", to));
  if (!rename_by_link_) {
    Move(from, to);
    return absl::OkStatus();
  }
  Log({Kind::kLink, from, to, "", 0});
  disk_.files[to] = disk_.files[from];
  const absl::Status unlinked = Unlink(from);
  return absl::IsNotFound(unlinked) ? absl::OkStatus() : unlinked;
}

absl::Status RecordingFileSystem::Unlink(const std::string& path) {
  Call("unlink", path);
  if (disk_.files.erase(path) == 0) return ErrnoToStatus(ENOENT, absl::StrCat("unlink ", path));
  Log({Kind::kUnlink, path, "", "", 0});
  std::erase_if(paths_, [&path](const auto& named) { return named.second == path; });
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> RecordingFileSystem::List(const std::string& folder) {
  Call("list", folder);
  if (!disk_.folders.contains(folder)) return ErrnoToStatus(ENOENT, absl::StrCat("opendir ", folder));
  std::vector<std::string> names;
  const auto add = [&](const std::string& path) {
    if (path != "/" && ParentOf(path) == folder) names.push_back(path.substr(path.find_last_of('/') + 1));
  };
  for (const auto& [path, bytes] : disk_.files) add(path);
  for (const std::string& path : disk_.folders) add(path);
  std::sort(names.begin(), names.end());
  return names;
}

namespace {

// What the disk did with one operation that no fsync covers.
enum class Fate { kKept, kDropped, kTorn };

bool TouchesNames(Kind kind) {
  return kind == Kind::kMakeFolder || kind == Kind::kRemoveFolder || kind == Kind::kCreate || kind == Kind::kRename ||
         kind == Kind::kLink || kind == Kind::kUnlink;
}

// True if an fsync between `index` and `count` covers operation `index`.
bool IsSynced(const std::vector<DiskOperation>& log, size_t index, size_t count) {
  const DiskOperation& operation = log[index];
  for (size_t later = index + 1; later < count; ++later) {
    if (TouchesNames(operation.kind) && log[later].kind == Kind::kSyncFolder && log[later].path == ParentOf(operation.path))
      return true;
    if (!TouchesNames(operation.kind) && log[later].kind == Kind::kSync && log[later].path == operation.path) return true;
    // What was in a folder whose removal is durable is settled.
    if (log[later].kind == Kind::kRemoveFolder && log[later].path == ParentOf(operation.path) && IsSynced(log, later, count)) {
      return true;
    }
  }
  return false;
}

// Bytes live beside names: a file whose name was lost is not there, whatever became of its bytes.
struct Survivor {
  Disk disk;

  void Apply(const DiskOperation& operation, Fate fate, size_t torn_at) {
    if (fate == Fate::kDropped) return;
    switch (operation.kind) {
      case Kind::kMakeFolder:
        disk.folders.insert(operation.path);
        break;
      case Kind::kCreate:
        named.insert(operation.path);
        break;
      case Kind::kWrite: {
        std::string& file = disk.files[operation.path];
        const size_t bytes = fate == Fate::kTorn ? torn_at : operation.bytes.size();
        // A torn write may leave the length without the bytes: zeros.
        if (file.size() < operation.offset + operation.bytes.size() && fate == Fate::kTorn && torn_at % 2 == 1) {
          file.resize(operation.offset + operation.bytes.size());
        }
        if (file.size() < operation.offset + bytes) file.resize(operation.offset + bytes);
        file.replace(operation.offset, bytes, operation.bytes.substr(0, bytes));
        break;
      }
      case Kind::kTruncate:
        disk.files[operation.path].resize(operation.offset);
        break;
      case Kind::kRemoveFolder:
        disk.folders.erase(operation.path);
        // What a later folder of that name holds is its own.
        std::erase_if(named, [&operation](const std::string& path) { return ParentOf(path) == operation.path; });
        break;
      case Kind::kRename:
        disk.files[operation.to] = disk.files[operation.path];
        disk.files.erase(operation.path);
        named.erase(operation.path);
        named.insert(operation.to);
        break;
      case Kind::kLink:
        disk.files[operation.to] = disk.files[operation.path];
        named.insert(operation.to);
        break;
      case Kind::kUnlink:
        named.erase(operation.path);
        break;
      default:
        break;
    }
  }

  Disk Reachable() const {
    Disk reachable;
    const auto is_there = [this](std::string path) {
      while (path != "/") {
        path = ParentOf(path);
        if (!disk.folders.contains(path)) return false;
      }
      return true;
    };
    for (const std::string& folder : disk.folders) {
      if (is_there(folder)) reachable.folders.insert(folder);
    }
    for (const std::string& path : named) {
      const auto file = disk.files.find(path);
      if (is_there(path)) reachable.files[path] = file == disk.files.end() ? std::string() : file->second;
    }
    return reachable;
  }

  std::set<std::string> named;
};

}  // namespace

int ForEachPowerLoss(const Disk& before, const std::vector<DiskOperation>& log, size_t count, int states_max, uint64_t seed,
                     const std::function<void(const Disk&)>& check) {
  std::vector<size_t> open;  // operations that may or may not be on disk
  for (size_t i = 0; i < count; ++i) {
    const bool changes = log[i].kind != Kind::kSync && log[i].kind != Kind::kSyncFolder && log[i].kind != Kind::kAnnounce;
    if (changes && !IsSynced(log, i, count)) open.push_back(i);
  }
  const auto show = [&](const std::map<size_t, std::pair<Fate, size_t>>& fates) {
    Survivor survivor{before, {}};
    for (const auto& [path, bytes] : before.files) survivor.named.insert(path);
    for (size_t i = 0; i < count; ++i) {
      const auto fate = fates.find(i);
      survivor.Apply(log[i], fate == fates.end() ? Fate::kKept : fate->second.first,
                     fate == fates.end() ? 0 : fate->second.second);
    }
    check(survivor.Reachable());
  };

  // Choices of one operation: kept, dropped, and for a write torn behind any of its bytes.
  std::vector<size_t> choices;
  double states = 1;
  for (const size_t i : open) {
    choices.push_back(log[i].kind == Kind::kWrite ? 2 + log[i].bytes.size() : 2);
    states *= static_cast<double>(choices.back());
  }
  std::mt19937_64 random(seed);
  const bool all = states <= states_max;
  const int shown = all ? static_cast<int>(states) : states_max;
  for (int state = 0; state < shown; ++state) {
    std::map<size_t, std::pair<Fate, size_t>> fates;
    uint64_t rest = static_cast<uint64_t>(state);
    for (size_t k = 0; k < open.size(); ++k) {
      const uint64_t choice = all ? rest % choices[k] : random() % choices[k];
      rest /= choices[k];
      fates[open[k]] = choice == 0   ? std::pair(Fate::kKept, size_t{0})
                       : choice == 1 ? std::pair(Fate::kDropped, size_t{0})
                                     : std::pair(Fate::kTorn, static_cast<size_t>(choice - 2));
    }
    show(fates);
  }
  return shown;
}

}  // namespace muster
