#include "runtime/base/file_system.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/base/fd.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

class PosixAppendFile : public AppendFile {
 public:
  PosixAppendFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  absl::Status Write(absl::string_view bytes) override {
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd_.get(), bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return ErrnoToStatus(errno, absl::StrCat("write ", path_));
      bytes.remove_prefix(static_cast<size_t>(written));
    }
    return absl::OkStatus();
  }
  absl::Status Truncate(uint64_t bytes) override {
    if (::ftruncate(fd_.get(), static_cast<off_t>(bytes)) != 0) return ErrnoToStatus(errno, absl::StrCat("ftruncate ", path_));
    return absl::OkStatus();
  }
  absl::Status Sync() override {
    if (::fsync(fd_.get()) != 0) return ErrnoToStatus(errno, absl::StrCat("fsync ", path_));
    return absl::OkStatus();
  }

 private:
  UniqueFd fd_;
  std::string path_;
};

class PosixReadFile : public ReadFile {
 public:
  PosixReadFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  absl::StatusOr<uint64_t> Size() override {
    struct stat about;
    if (::fstat(fd_.get(), &about) != 0) return ErrnoToStatus(errno, absl::StrCat("fstat ", path_));
    return static_cast<uint64_t>(about.st_size);
  }
  absl::StatusOr<size_t> ReadAt(uint64_t offset, std::span<std::byte> bytes) override {
    size_t filled = 0;
    while (filled < bytes.size()) {
      const ssize_t got = ::pread(fd_.get(), bytes.data() + filled, bytes.size() - filled, static_cast<off_t>(offset + filled));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return ErrnoToStatus(errno, absl::StrCat("read ", path_));
      if (got == 0) break;
      filled += static_cast<size_t>(got);
    }
    return filled;
  }

 private:
  UniqueFd fd_;
  std::string path_;
};

bool SameFile(const std::string& a, const std::string& b) {
  struct stat of_a, of_b;
  return ::lstat(a.c_str(), &of_a) == 0 && ::lstat(b.c_str(), &of_b) == 0 && of_a.st_dev == of_b.st_dev &&
         of_a.st_ino == of_b.st_ino;
}

class Posix : public FileSystem {
 public:
  bool Exists(const std::string& path) override { return ::access(path.c_str(), F_OK) == 0; }

  absl::StatusOr<std::string> Read(const std::string& path) override {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return ErrnoToStatus(errno, absl::StrCat("open ", path));
    std::string bytes;
    char buffer[65536];
    while (true) {
      const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return ErrnoToStatus(errno, absl::StrCat("read ", path));
      if (got == 0) return bytes;
      bytes.append(buffer, static_cast<size_t>(got));
    }
  }

  absl::StatusOr<std::unique_ptr<AppendFile>> OpenForAppend(const std::string& path) override {
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600));
    if (!fd) return ErrnoToStatus(errno, absl::StrCat("open ", path));
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return ErrnoToStatus(errno, absl::StrCat("flock ", path));
      return absl::FailedPreconditionError(absl::StrCat(path, " is in use by another process"));
    }
    return std::make_unique<PosixAppendFile>(std::move(fd), path);
  }

  absl::StatusOr<std::unique_ptr<AppendFile>> CreateExclusive(const std::string& path) override {
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (!fd) return ErrnoToStatus(errno, absl::StrCat("create ", path));
    return std::make_unique<PosixAppendFile>(std::move(fd), path);
  }

  absl::StatusOr<std::unique_ptr<AppendFile>> OpenExisting(const std::string& path) override {
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
    if (!fd) return ErrnoToStatus(errno, absl::StrCat("open ", path));
    return std::make_unique<PosixAppendFile>(std::move(fd), path);
  }

  absl::StatusOr<std::unique_ptr<ReadFile>> OpenForRead(const std::string& path) override {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));  // opening a pipe would wait for somebody who writes
    if (!fd) return ErrnoToStatus(errno, absl::StrCat("open ", path));
    struct stat about;
    if (::fstat(fd.get(), &about) != 0) return ErrnoToStatus(errno, absl::StrCat("fstat ", path));
    if (!S_ISREG(about.st_mode)) return absl::InternalError(absl::StrCat("open ", path, ": it is not a regular file"));
    return std::make_unique<PosixReadFile>(std::move(fd), path);
  }

  absl::Status MakeFolder(const std::string& path) override {
    if (::mkdir(path.c_str(), 0777) != 0) return ErrnoToStatus(errno, absl::StrCat("mkdir ", path));
    return absl::OkStatus();
  }

  absl::Status SyncFolder(const std::string& path) override {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) return ErrnoToStatus(errno, absl::StrCat("open ", path));
    // EINVAL: this file system keeps names without being asked, or cannot be asked.
    if (::fsync(fd.get()) != 0 && errno != EINVAL) return ErrnoToStatus(errno, absl::StrCat("fsync ", path));
    return absl::OkStatus();
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) return ErrnoToStatus(errno, absl::StrCat("rename ", from, " to ", to));
    return absl::OkStatus();
  }

  // renameat2(2). NFS and others that lack RENAME_NOREPLACE have link(2), which never replaces either; where its answer was lost
  // and it was sent again, it says EEXIST although it was done (open(2), on O_EXCL), so the two names are compared.
  absl::Status RenameNew(const std::string& from, const std::string& to) override {
    const std::string what = absl::StrCat("rename ", from, " to ", to);
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return absl::OkStatus();
    if (errno != EINVAL && errno != ENOSYS) return ErrnoToStatus(errno, what);
    if (::link(from.c_str(), to.c_str()) != 0) {
      const int error = errno;
      if (error != EEXIST || !SameFile(from, to)) return ErrnoToStatus(error, what);
    }
    if (::unlink(from.c_str()) != 0 && errno != ENOENT) return ErrnoToStatus(errno, absl::StrCat("unlink ", from));
    return absl::OkStatus();
  }

  absl::Status RemoveFolder(const std::string& path) override {
    if (::rmdir(path.c_str()) == 0) return absl::OkStatus();
    const int error = errno;
    absl::Status status = ErrnoToStatus(error, absl::StrCat("rmdir ", path));
    return error == ENOTEMPTY || error == EEXIST ? absl::FailedPreconditionError(status.message()) : status;
  }

  absl::Status Unlink(const std::string& path) override {
    if (::unlink(path.c_str()) != 0) return ErrnoToStatus(errno, absl::StrCat("unlink ", path));
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> List(const std::string& folder) override {
    DIR* const dir = ::opendir(folder.c_str());
    if (dir == nullptr) return ErrnoToStatus(errno, absl::StrCat("opendir ", folder));
    std::vector<std::string> names;
    while (const dirent* entry = ::readdir(dir)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
    }
    ::closedir(dir);
    std::sort(names.begin(), names.end());
    return names;
  }
};

}  // namespace

FileSystem& PosixFileSystem() {
  static Posix* const files = new Posix;  // never destroyed: used until the process ends
  return *files;
}

}  // namespace muster
