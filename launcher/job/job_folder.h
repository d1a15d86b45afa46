// Where a job is kept: $XDG_STATE_HOME/muster/JOB/, the newest 20 jobs.
//
//   command        what was typed, one line                      record        the coordinator's (launcher/coordinator/record.h)
//   status.json    how it stands now (job_files.h)               events.jsonl  what happened (job_files.h)
//   logs/          the workers' output (log_keeper.h)            verdict.json  how it ended (report.h)
//   lock           locked while somebody runs the job; holds that process's id
//   same-job       what who shall go on with it says (--same-job), one line; mostly missing
#ifndef MUSTER_LAUNCHER_JOB_JOB_FOLDER_H_
#define MUSTER_LAUNCHER_JOB_JOB_FOLDER_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/base/fd.h"

namespace muster {

inline constexpr int kJobFoldersKept = 20;

// While it lives the folder is locked (flock on its `lock` file), so that no other muster prunes it, and everybody can see that
// somebody runs the job. The lock belongs to all copies of its descriptor.
class JobFolder {
 public:
  // Makes `state_home`/muster/`job_id` (mode 0700), with this process as the one that runs the job. It gets its name when it is
  // locked already.
  // Errors: the code of what failed; the message names the path and the remedy (XDG_STATE_HOME).
  static absl::StatusOr<std::unique_ptr<JobFolder>> Create(const std::string& state_home, const std::string& job_id);

  // Of a job that nobody runs any more and that has no verdict: whoever runs it now goes on with it. Errors: FailedPrecondition (somebody
  // runs it), else the code of what failed.
  static absl::StatusOr<std::unique_ptr<JobFolder>> TakeUp(std::string path);

  // In a process that has inherited the lock's descriptor from the one that made the folder: from now on this process is the one
  // that runs the job. Errors: InvalidArgument (`lock` is not the folder's), else the code of what failed.
  static absl::StatusOr<std::unique_ptr<JobFolder>> Adopt(std::string path, UniqueFd lock);

  // Removes the oldest folders of ended jobs beyond kJobFoldersKept, as well as it can: another muster may do so at the same
  // moment. In any thread.
  void RemoveOlder() const;

  const std::string& path() const { return path_; }
  // To be inherited by a process that adopts the folder. Borrowed.
  int lock_fd() const { return lock_.get(); }

 private:
  JobFolder(std::string path, UniqueFd lock) : path_(std::move(path)), lock_(std::move(lock)) {}

  std::string path_;
  UniqueFd lock_;
};

// 32 hexadecimal digits.
bool IsJobId(const std::string& name);

// The folder that state of all programs goes to: `xdg_state_home` if it is an absolute path, else `home`/.local/state; without
// either a folder of this user's under `temporary`, and `*fallback` is set. Source: XDG Base Directory Specification 0.8.
std::string StateHome(std::optional<std::string> xdg_state_home, std::optional<std::string> home, const std::string& temporary,
                      bool* fallback);

// A command as a shell would take it, in one line.
std::string CommandText(const std::vector<std::string>& command);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_JOB_JOB_FOLDER_H_
