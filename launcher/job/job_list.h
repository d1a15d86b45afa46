// The jobs that are kept on this machine, read from their folders alone: whether they still run, how they stand, how they ended.
#ifndef MUSTER_LAUNCHER_JOB_JOB_LIST_H_
#define MUSTER_LAUNCHER_JOB_JOB_LIST_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launcher/job/job_files.h"

namespace muster {

struct StoredVerdict {
  int64_t exit_code = 0;
  std::string sentence;       // empty when the job went well
  std::string failure_class;  // "signal", "stopped", ...: coordinator/verdict.h
  double seconds = 0;
  std::string json;  // the whole of verdict.json
};

struct StoredJob {
  std::string job_id;
  std::string folder;
  std::string command;
  int64_t started_unix_ms = 0;
  bool held = false;  // somebody runs it: the lock is held
  pid_t owner = 0;    // who, as the lock file says; 0: not known
  JobStatus status;   // defaults where status.json is missing
  std::optional<StoredVerdict> verdict;

  // While it runs what its status says; afterwards "done" (exit status 0), "stopped" (somebody asked for its end: muster cancel, Ctrl-C,
  // a signal), "failed", or "lost": whoever ran it died and left no verdict.
  std::string state() const;
  // "4e525033", enough to name it.
  std::string brief() const { return job_id.substr(0, 8); }
};

// `folder` is a job's. What is missing or damaged is left out.
StoredJob ReadJob(const std::string& folder);

// True while somebody runs the job.
bool IsHeld(const std::string& folder);

// Newest first.
std::vector<StoredJob> ListJobs(const std::string& state_home);

// By the beginning of its id; the newest if that is empty.
// Errors: NotFound (no such job, or none at all), InvalidArgument (several begin so); the message lists what there is.
absl::StatusOr<StoredJob> FindJob(const std::string& state_home, const std::string& id_prefix);

// The newest that was started with --same-job `name` and has no verdict, whether somebody runs it or not.
std::optional<StoredJob> FindUnfinished(const std::string& state_home, const std::string& name);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_JOB_JOB_LIST_H_
