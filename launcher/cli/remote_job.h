// A job whose coordinator is a process of its own: of several nodes, or one that runs on without us.
#ifndef MUSTER_LAUNCHER_CLI_REMOTE_JOB_H_
#define MUSTER_LAUNCHER_CLI_REMOTE_JOB_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "launcher/cli/job_signals.h"
#include "launcher/cli/start_progress.h"
#include "launcher/process/launch_link.h"
#include "muster/v1/launch.pb.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

class StdinPieces;

struct RemoteJobOptions {
  v1::Launch launch;            // complete
  std::string coordinator_log;  // where a detached coordinator's own stderr goes
  int job_lock = -1;            // of the job's folder; borrowed until Create has returned
};

struct RemoteResult {
  v1::Verdict verdict;
  std::string report_json;  // empty: the coordinator gave none
  bool runs_on = false;     // detached, and all workers have started: there is no verdict yet
  bool goes_on = false;     // another coordinator is to go on with the job: the verdict is on this one alone
};

// Starts the coordinator, brings it our stdin, our signals and the wish to end, and shows what it says. The workers' output it
// writes itself. One at a time in a process: it takes the process's signals.
class RemoteJob {
 public:
  // The coordinator is this same executable, started in a process group of its own (detached: a session of its own, with nothing of
  // our terminal). Errors: those of the kernel.
  static absl::StatusOr<std::unique_ptr<RemoteJob>> Create(RemoteJobOptions options);
  // A coordinator of an attached job that still runs ends its job, for the link closes.
  ~RemoteJob();

  // Until the job is over, or runs detached. If the coordinator dies the verdict says so (70), and what it has started is ended
  // first. A coordinator that cannot be told to end is killed at the third request.
  RemoteResult Run();

 private:
  explicit RemoteJob(v1::Launch launch) : launch_(std::move(launch)) {}

  absl::Status StartCoordinator(const RemoteJobOptions& options);
  void OnReport(const std::string& bytes);
  void OnClosed();
  void OnSignal(int signal, const std::string& by);
  void RequestStop(v1::StopRequest::Kind kind, const std::string& by);
  void SendSignal(int signal);
  void SendWindowSize();
  void PauseWithWorkers();
  absl::Status ForwardStdin();
  void Leave(RemoteResult result);
  void LeaveWithoutCoordinator();
  RemoteResult CoordinatorLost(const std::string& how) const;

  const v1::Launch launch_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<JobSignals> signals_;
  pid_t coordinator_ = 0;
  UniqueFd coordinator_pidfd_;
  std::unique_ptr<LaunchLink> link_;
  std::unique_ptr<StdinPieces> input_;  // null: none is read
  std::optional<StartProgress> progress_;
  std::optional<RemoteResult> result_;
  bool all_started_ = false;
  bool inherits_agents_ = false;  // should the coordinator die
  int stops_ = 0;
  int64_t told_to_end_now_ns_ = 0;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_REMOTE_JOB_H_
