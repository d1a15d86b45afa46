// Where a job's record and verdict are kept: $XDG_STATE_HOME/muster/JOB/, the newest 20 jobs.
#ifndef MUSTER_LAUNCHER_CLI_JOB_FOLDER_H_
#define MUSTER_LAUNCHER_CLI_JOB_FOLDER_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/base/fd.h"

namespace muster {

inline constexpr int kJobFoldersKept = 20;

// While it lives the folder is locked (flock on its `lock` file), so that no other muster prunes it.
class JobFolder {
 public:
  // Makes `state_home`/muster/`job_id` (mode 0700) and removes the oldest folders of ended jobs beyond kJobFoldersKept.
  // Errors: the code of what failed; the message names the path and the remedy (XDG_STATE_HOME).
  static absl::StatusOr<std::unique_ptr<JobFolder>> Create(const std::string& state_home, const std::string& job_id);

  const std::string& path() const { return path_; }

 private:
  JobFolder(std::string path, UniqueFd lock) : path_(std::move(path)), lock_(std::move(lock)) {}

  std::string path_;
  UniqueFd lock_;
};

// The folder that state of all programs goes to: `xdg_state_home` if it is an absolute path, else `home`/.local/state; without
// either a folder of this user's under `temporary`, and `*fallback` is set. Source: XDG Base Directory Specification 0.8.
std::string StateHome(std::optional<std::string> xdg_state_home, std::optional<std::string> home, const std::string& temporary,
                      bool* fallback);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_JOB_FOLDER_H_
