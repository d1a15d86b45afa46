// Keeps a job's status.json and events.jsonl up to date from what its coordinator says.
#ifndef MUSTER_LAUNCHER_PROCESS_JOB_REPORTER_H_
#define MUSTER_LAUNCHER_PROCESS_JOB_REPORTER_H_

#include <optional>
#include <string>

#include "launcher/coordinator/membership.h"
#include "launcher/coordinator/verdict.h"
#include "launcher/job/job_files.h"
#include "muster/v1/record.pb.h"
#include "runtime/base/event_loop.h"

namespace muster {

// Belongs to the loop's thread.
class JobReporter {
 public:
  // `first`: what is known before anything has happened (job, command, workers wanted, ...). `membership` is borrowed.
  JobReporter(EventLoop* loop, const std::string& job_folder, JobStatus first, const Membership* membership);
  ~JobReporter();  // writes what is still due

  // To be called from the coordinator's callbacks of these names.
  void Happened(const v1::JobEvent& event);
  void Finished();

 private:
  void Look();
  void LookAgainSoon();

  EventLoop* const loop_;
  const Membership* const membership_;
  JobFiles files_;
  JobStatus status_;
  size_t failures_seen_ = 0;
  bool over_ = false;
  std::optional<EventLoop::TimerId> timer_;
};

// What the user is told when the job goes on after a failure: "rank 2 on host node-a was killed by SIGKILL; restarting all 4
// workers from the checkpoint of step 40, restart 1 of 3". `membership` has stepped already; 0 for `workers_min`: all.
std::string RestartNote(const Judgement& why, const Membership& membership, int64_t workers, int64_t workers_min,
                        int64_t max_restarts);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_JOB_REPORTER_H_
