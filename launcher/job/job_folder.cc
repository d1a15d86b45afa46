#include "launcher/job/job_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

constexpr char kUnnamed[] = "new-";

UniqueFd TryLock(const std::string& folder) {
  UniqueFd lock(::open((folder + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (lock && ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) lock.Reset();
  return lock;
}

// What was left by a muster that was killed before its folder had a name. A young one may be about to get its lock.
void RemoveUnnamed(const fs::directory_entry& entry) {
  std::error_code error;
  const auto when = entry.last_write_time(error);
  if (error || fs::file_time_type::clock::now() - when < std::chrono::hours(1)) return;
  const std::string path = entry.path().string();
  if (const UniqueFd lock = TryLock(path); lock) fs::remove_all(path, error);
}

absl::Status CannotWrite(const std::string& path, int error) {
  return ErrnoToStatus(
      error, absl::StrCat("cannot write the job's record to ", path, " (set XDG_STATE_HOME to a folder that can be written)"));
}

// For whoever wants the job to end: `muster cancel` looks whether this process holds the lock before it believes it.
absl::Status WriteOwner(int lock, const std::string& path) {
  const std::string text = absl::StrCat(::getpid(), "\n");
  const ssize_t written = ::pwrite(lock, text.data(), text.size(), 0);
  if (written != static_cast<ssize_t>(text.size())) return CannotWrite(path, written < 0 ? errno : ENOSPC);
  return ::ftruncate(lock, written) == 0 ? absl::OkStatus() : CannotWrite(path, errno);
}

}  // namespace

bool IsJobId(const std::string& name) {
  return name.size() == 32 && std::all_of(name.begin(), name.end(), [](unsigned char c) { return absl::ascii_isxdigit(c); });
}

absl::StatusOr<std::unique_ptr<JobFolder>> JobFolder::Create(const std::string& state_home, const std::string& job_id) {
  const std::string parent = state_home + "/muster";
  const std::string path = absl::StrCat(parent, "/", job_id);
  const std::string unlocked = absl::StrCat(parent, "/", kUnnamed, job_id);
  std::error_code error;
  fs::create_directories(parent, error);
  if (error) return CannotWrite(parent, error.value());
  if (::mkdir(unlocked.c_str(), 0700) != 0) return CannotWrite(path, errno);
  UniqueFd lock = TryLock(unlocked);
  absl::Status made = lock ? WriteOwner(lock.get(), path + "/lock") : CannotWrite(path + "/lock", errno);
  if (made.ok() && ::rename(unlocked.c_str(), path.c_str()) != 0) made = CannotWrite(path, errno);
  if (!made.ok()) {
    fs::remove_all(unlocked, error);
    return made;
  }
  return std::unique_ptr<JobFolder>(new JobFolder(path, std::move(lock)));
}

void JobFolder::RemoveOlder() const {
  struct Job {
    fs::file_time_type when;
    std::string path;
  };
  std::vector<Job> jobs;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(fs::path(path_).parent_path(), error)) {
    const std::string name = entry.path().filename().string();
    if (absl::StartsWith(name, kUnnamed) && IsJobId(name.substr(sizeof kUnnamed - 1))) RemoveUnnamed(entry);
    if (!IsJobId(name)) continue;
    std::error_code no_time;
    const auto when = entry.last_write_time(no_time);
    if (!no_time) jobs.push_back({when, entry.path().string()});
  }
  std::sort(jobs.begin(), jobs.end(), [](const Job& a, const Job& b) { return a.when > b.when; });
  for (size_t i = kJobFoldersKept; i < jobs.size(); ++i) {
    if (const UniqueFd lock = TryLock(jobs[i].path); lock) fs::remove_all(jobs[i].path, error);
  }
}

absl::StatusOr<std::unique_ptr<JobFolder>> JobFolder::TakeUp(std::string path) {
  UniqueFd lock = TryLock(path);
  if (!lock && errno != EWOULDBLOCK) return CannotWrite(path, errno);
  if (!lock) return absl::FailedPreconditionError(absl::StrCat("another process runs the job in ", path));
  MUSTER_RETURN_IF_ERROR(WriteOwner(lock.get(), path + "/lock"));
  return std::unique_ptr<JobFolder>(new JobFolder(std::move(path), std::move(lock)));
}

absl::StatusOr<std::unique_ptr<JobFolder>> JobFolder::Adopt(std::string path, UniqueFd lock) {
  const std::string file = path + "/lock";
  struct stat ours, named;
  if (::fstat(lock.get(), &ours) != 0) return ErrnoToStatus(errno, absl::StrCat("the descriptor of ", file));
  if (::stat(file.c_str(), &named) != 0) return ErrnoToStatus(errno, file);
  if (ours.st_dev != named.st_dev || ours.st_ino != named.st_ino) {
    return absl::InvalidArgumentError(absl::StrCat("the descriptor given for ", file, " is another file's"));
  }
  if (::fcntl(lock.get(), F_SETFD, FD_CLOEXEC) != 0) return ErrnoToStatus(errno, file);
  MUSTER_RETURN_IF_ERROR(WriteOwner(lock.get(), file));
  return std::unique_ptr<JobFolder>(new JobFolder(std::move(path), std::move(lock)));
}

std::string StateHome(std::optional<std::string> xdg_state_home, std::optional<std::string> home, const std::string& temporary,
                      bool* fallback) {
  *fallback = false;
  if (xdg_state_home && !xdg_state_home->empty() && xdg_state_home->front() == '/') return *xdg_state_home;
  if (home && !home->empty() && home->front() == '/') return *home + "/.local/state";
  *fallback = true;
  return absl::StrCat(temporary, "/muster-state-", ::getuid());
}

std::string CommandText(const std::vector<std::string>& command) {
  constexpr absl::string_view kPlain = "_-+=/.,:@%^";
  std::string text;
  for (const std::string& word : command) {
    const bool plain = !word.empty() && std::all_of(word.begin(), word.end(), [kPlain](unsigned char c) {
      return absl::ascii_isalnum(c) || kPlain.find(static_cast<char>(c)) != absl::string_view::npos;
    });
    absl::StrAppend(&text, text.empty() ? "" : " ");
    if (plain) {
      absl::StrAppend(&text, word);
    } else if (std::any_of(word.begin(), word.end(), [](unsigned char c) { return absl::ascii_iscntrl(c); })) {
      absl::StrAppend(&text, "$'", absl::CHexEscape(word), "'");
    } else {
      absl::StrAppend(&text, "'", absl::StrReplaceAll(word, {{"'", "'\\''"}}), "'");
    }
  }
  return text;
}

}  // namespace muster
