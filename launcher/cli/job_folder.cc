#include "launcher/cli/job_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

bool IsJobId(const std::string& name) {
  return name.size() == 32 && std::all_of(name.begin(), name.end(), [](unsigned char c) { return absl::ascii_isxdigit(c); });
}

UniqueFd TryLock(const std::string& folder) {
  UniqueFd lock(::open((folder + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (lock && ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) lock.Reset();
  return lock;
}

// Best effort: another muster may prune at the same moment.
void Prune(const std::string& folder) {
  struct Job {
    fs::file_time_type when;
    std::string path;
  };
  std::vector<Job> jobs;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (!IsJobId(entry.path().filename().string())) continue;
    std::error_code no_time;
    const auto when = entry.last_write_time(no_time);
    if (!no_time) jobs.push_back({when, entry.path().string()});
  }
  std::sort(jobs.begin(), jobs.end(), [](const Job& a, const Job& b) { return a.when > b.when; });
  for (size_t i = kJobFoldersKept; i < jobs.size(); ++i) {
    if (const UniqueFd lock = TryLock(jobs[i].path); lock) fs::remove_all(jobs[i].path, error);
  }
}

absl::Status CannotWrite(const std::string& path, int error) {
  return ErrnoToStatus(
      error, absl::StrCat("cannot write the job's record to ", path, " (set XDG_STATE_HOME to a folder that can be written)"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<JobFolder>> JobFolder::Create(const std::string& state_home, const std::string& job_id) {
  const std::string parent = state_home + "/muster";
  const std::string path = absl::StrCat(parent, "/", job_id);
  std::error_code error;
  fs::create_directories(parent, error);
  if (error) return CannotWrite(parent, error.value());
  if (::mkdir(path.c_str(), 0700) != 0) return CannotWrite(path, errno);
  UniqueFd lock = TryLock(path);
  if (!lock) return CannotWrite(path + "/lock", errno);
  Prune(parent);
  return std::unique_ptr<JobFolder>(new JobFolder(path, std::move(lock)));
}

std::string StateHome(std::optional<std::string> xdg_state_home, std::optional<std::string> home, const std::string& temporary,
                      bool* fallback) {
  *fallback = false;
  if (xdg_state_home && !xdg_state_home->empty() && xdg_state_home->front() == '/') return *xdg_state_home;
  if (home && !home->empty() && home->front() == '/') return *home + "/.local/state";
  *fallback = true;
  return absl::StrCat(temporary, "/muster-state-", ::getuid());
}

}  // namespace muster
