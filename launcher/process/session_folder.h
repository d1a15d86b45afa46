// The workers' TMPDIR: one folder a job, gone when the job is.
#ifndef MUSTER_LAUNCHER_PROCESS_SESSION_FOLDER_H_
#define MUSTER_LAUNCHER_PROCESS_SESSION_FOLDER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/base/fd.h"

namespace muster {

// Removed when destroyed; the guard removes it when this process dies. If both were killed at once the next job on this machine
// finds the folder unlocked and removes it.
class SessionFolder {
 public:
  // Makes `temporary`/muster-`job_id` (mode 0700) and removes what dead jobs of this user left there.
  // Errors: the code of what failed; the message names the path and the remedy (TMPDIR).
  static absl::StatusOr<std::unique_ptr<SessionFolder>> Create(const std::string& temporary, const std::string& job_id);
  // The same for one of several nodes that may share `temporary`: the name ends in something random.
  static absl::StatusOr<std::unique_ptr<SessionFolder>> CreateForNode(const std::string& temporary, const std::string& job_id);
  ~SessionFolder();

  const std::string& path() const { return path_; }

 private:
  static absl::StatusOr<std::unique_ptr<SessionFolder>> Make(const std::string& temporary, const std::string& path);
  SessionFolder(std::string path, UniqueFd lock) : path_(std::move(path)), lock_(std::move(lock)) {}

  std::string path_;
  UniqueFd lock_;  // of the folder itself
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_SESSION_FOLDER_H_
