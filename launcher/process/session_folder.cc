#include "launcher/process/session_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "launcher/guard/shared_memory.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

constexpr char kPrefix[] = "muster-";
constexpr size_t kNameLength = sizeof kPrefix - 1 + 32;
constexpr size_t kNodeSuffixLength = 1 + 12;  // "-" and hexadecimal digits

UniqueFd TryLock(const std::string& folder) {
  UniqueFd lock(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (lock && ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) lock.Reset();
  return lock;
}

bool IsOurs(const std::string& path) {
  struct stat status;
  return ::lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == ::getuid();
}

bool IsName(const std::string& name) {
  if (!absl::StartsWith(name, kPrefix)) return false;
  return name.size() == kNameLength || (name.size() == kNameLength + kNodeSuffixLength && name[kNameLength] == '-');
}

void RemoveDead(const std::string& temporary) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(temporary, fs::directory_options::skip_permission_denied, error)) {
    const std::string name = entry.path().filename().string(), path = entry.path().string();
    if (!IsName(name) || !IsOurs(path)) continue;
    const UniqueFd lock = TryLock(path);
    if (!lock) continue;
    fs::remove_all(guard::SharedMemoryFolder(path), error);
    fs::remove_all(path, error);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<SessionFolder>> SessionFolder::Create(const std::string& temporary, const std::string& job_id) {
  return Make(temporary, absl::StrCat(temporary, "/", kPrefix, job_id));
}

absl::StatusOr<std::unique_ptr<SessionFolder>> SessionFolder::CreateForNode(const std::string& temporary,
                                                                            const std::string& job_id) {
  char random[6];
  MUSTER_CHECK(::getentropy(random, sizeof random) == 0, "getentropy");
  const std::string suffix = absl::BytesToHexString(absl::string_view(random, sizeof random));
  return Make(temporary, absl::StrCat(temporary, "/", kPrefix, job_id, "-", suffix));
}

absl::StatusOr<std::unique_ptr<SessionFolder>> SessionFolder::Make(const std::string& temporary, const std::string& path) {
  RemoveDead(temporary);
  // It gets the name that RemoveDead looks for when it is locked already.
  const std::string unlocked = path + ".new";
  const auto failed = [&path] {
    return ErrnoToStatus(
        errno, absl::StrCat("cannot make the job's temporary folder ", path, " (set TMPDIR to a folder that can be written)"));
  };
  if (::mkdir(unlocked.c_str(), 0700) != 0) return failed();
  UniqueFd lock = TryLock(unlocked);
  if (!lock || ::rename(unlocked.c_str(), path.c_str()) != 0) {
    const absl::Status status = failed();
    ::rmdir(unlocked.c_str());
    return status;
  }
  return std::unique_ptr<SessionFolder>(new SessionFolder(path, std::move(lock)));
}

SessionFolder::~SessionFolder() {
  std::error_code error;
  fs::remove_all(guard::SharedMemoryFolder(path_), error);
  fs::remove_all(path_, error);
}

}  // namespace muster
