// A job on this machine: coordinator and agent in this process, joined by memory.
#ifndef MUSTER_LAUNCHER_CLI_LOCAL_JOB_H_
#define MUSTER_LAUNCHER_CLI_LOCAL_JOB_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "launcher/agent/agent.h"
#include "launcher/cli/job_signals.h"
#include "launcher/cli/program.h"
#include "launcher/cli/run_options.h"
#include "launcher/cli/start_progress.h"
#include "launcher/coordinator/coordinator.h"
#include "launcher/job/log_keeper.h"
#include "launcher/process/job_reporter.h"
#include "launcher/process/rank_inquiry.h"
#include "launcher/process/report.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

struct LocalJobOptions {
  RunOptions run;       // `workers` and `command` filled in
  std::string job_id;   // 16 bytes
  Startable program;    // of run.command
  std::vector<Startable> programs;  // of several programs: of each of run.applications
  std::string guard_path;
  std::string job_folder;
  std::string session_folder;
  std::vector<std::string> environment;  // muster's own
};

// One at a time in a process: it takes the process's signals.
class LocalJob {
 public:
  // Errors: those of Coordinator::Create, and of the kernel when it grants no descriptor.
  static absl::StatusOr<std::unique_ptr<LocalJob>> Create(LocalJobOptions options);
  ~LocalJob();

  // Runs the job to its end: all workers gone, all their output written. An exit code of kExitBrokenPipe says that the reader
  // of our stdout has gone.
  JobResult Run();

 private:
  explicit LocalJob(LocalJobOptions options) : options_(std::move(options)) {}

  absl::Status MakeAgent();
  absl::Status MakeCoordinator();
  void WatchReader();
  void CheckReader();
  void OnSignal(int signal, const std::string& by);
  void OnStarted(uint32_t started);
  void RequestStop(StopKind kind, const std::string& by, std::vector<v1::RankState> states = {});
  void CannotWriteOutput(const std::string& why);
  void OnTimeLimit();
  void PauseWithWorkers();
  void StopWhenWorkersAreTold();
  void OnFinished(const Judgement& judgement);
  void OnAgentGone(const absl::Status& status);
  void ReplaceAgent();
  void Judge(const absl::Status& status);
  void EndWhenAllIsWritten();
  void ShowStopping();

  const LocalJobOptions options_;
  std::string host_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<JobSignals> signals_;
  UniqueFd stdout_watch_;
  std::unique_ptr<Coordinator> coordinator_;
  std::optional<JobReporter> reporter_;
  std::optional<LogKeeper> logs_;
  std::unique_ptr<Agent> agent_;
  std::optional<RankInquiry> inquiry_;
  std::optional<StartProgress> progress_;
  std::optional<Judgement> judgement_;
  bool agent_gone_ = false;
  bool restarting_ = false;  // from a generation's failure until the next one's workers run
  uint64_t lines_dropped_ = 0;
  bool write_failed_ = false;
  std::string cannot_write_;  // why output files cannot be made
  bool reader_gone_ = false;
  bool stopping_ = false;
  bool pausing_ = false;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_LOCAL_JOB_H_
