// The process of one job's coordinator: Coordinator behind the agents' streams, with a starter that brings agents onto nodes, and
// the command that started it at the other end of a socket, if there is one.
#ifndef MUSTER_LAUNCHER_PROCESS_COORDINATOR_PROCESS_H_
#define MUSTER_LAUNCHER_PROCESS_COORDINATOR_PROCESS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "launcher/channel/agent_server.h"
#include "launcher/channel/authority.h"
#include "launcher/coordinator/coordinator.h"
#include "launcher/job/job_folder.h"
#include "launcher/process/agent_keeper.h"
#include "launcher/process/input_relay.h"
#include "launcher/process/job_reporter.h"
#include "launcher/process/launch_link.h"
#include "launcher/process/node_slots.h"
#include "launcher/process/output_writer.h"
#include "launcher/process/rank_inquiry.h"
#include "launcher/process/report.h"
#include "launcher/process/stop_requests.h"
#include "launcher/starter/starter.h"
#include "muster/v1/launch.pb.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

struct CoordinatorProcessOptions {
  // To the command, which sends Launch first; the job folder's lock is kJobLockFd then. Invalid: a person has started us, and
  // `launch` and `job_folder` are given.
  UniqueFd link;
  v1::Launch launch;
  std::unique_ptr<JobFolder> job_folder;
};

// One at a time in a process: it takes the process's signals.
class CoordinatorProcess {
 public:
  // To be called while the process has one thread.
  static absl::StatusOr<std::unique_ptr<CoordinatorProcess>> Create(CoordinatorProcessOptions options);
  ~CoordinatorProcess();

  // Runs the job to its end: all agents gone, all output written, the Outcome sent. Returns the exit status of the job.
  int Run();

 private:
  using Asker = StopRequests::Asker;

  CoordinatorProcess() = default;

  // Beginning.
  absl::Status TakeSignals();
  void Launch();
  absl::Status Begin();
  absl::Status BringUpStarter();
  absl::Status MakeOutput();
  void MakeInput();
  absl::Status MakeCoordinator();
  absl::Status MakeServer();
  void MakeAgents();
  std::string CoordinatorPlace() const;
  bool is_attached() const { return link_ != nullptr; }

  // The command.
  void OnCommand(const std::string& bytes);
  void OnCommandGone(const absl::Status& why);
  void OnSignal(int signal, const std::string& by);
  void RequestStop(StopKind kind, Asker asker, const std::string& by);
  void EndNow(StopKind kind);
  void LeaveToSuccessor(const std::string& by);
  void OnTimeLimit();
  void SendSignal(const v1::Signal& signal);
  void Report(v1::CoordinatorReport report);
  void Tell(const std::string& note);

  // Agents.
  void OnAgent(uint32_t node, v1::AgentMessage message);
  void TakeJoin(uint32_t node, v1::AgentMessage message);
  void FillHosts();
  void OnSessionLost(uint32_t node, const std::string& why);
  void OnAgentEnded(uint32_t node, const std::string& why);
  absl::Status StartAgent(uint32_t node, absl::Duration ticket_good_for);
  AgentKeeper::Want WantOfAgents() const;
  void LookForSilence();
  v1::CoordinatorMessage Message() const;
  void SendToAll(const v1::CoordinatorMessage& message);

  // The job.
  void OnReady(const v1::AgentMessage& message);
  void OnRestarting(const Judgement& why);
  void OnHappened(const v1::JobEvent& event);
  void LetGoOfCommand();
  void OnFinished(const Judgement& judgement);
  void WaitForAgents();
  void End();
  JobResult Result() const;
  // The verdict of an end that no table decides.
  void Fail(int exit_code, std::string failure_class, std::string sentence);

  std::unique_ptr<EventLoop> loop_;
  UniqueFd signals_;
  std::unique_ptr<LaunchLink> link_;  // null: nobody, or not any more
  bool launched_ = false;
  v1::Launch launch_;
  std::unique_ptr<JobFolder> job_folder_;
  std::string host_;
  absl::Time started_;
  std::optional<NodeSlots> slots_;
  std::unique_ptr<Starter> starter_;
  std::unique_ptr<Authority> authority_;
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<JobReporter> reporter_;
  std::unique_ptr<OutputWriter> output_;
  std::unique_ptr<InputRelay> input_;
  std::unique_ptr<AgentServer> server_;
  std::unique_ptr<AgentKeeper> agents_;
  std::map<uint32_t, uint32_t> ready_;  // workers of this generation that have started, by node
  uint64_t ready_generation_ = 0;
  std::optional<v1::Verdict> override_;  // an end that no table decided
  std::optional<Judgement> judgement_;
  bool stopping_ = false;
  bool leaves_ = false;  // stopping, for another takes this place
  bool left_ = false;    // another takes this place, and the job goes on
  StopRequests stop_requests_;
  std::optional<RankInquiry> inquiry_;
  bool command_died_ = false;
  bool ending_ = false;
  int64_t looked_for_silence_ns_ = 0;
  int64_t agents_deadline_ns_ = 0;
  int exit_code_ = 0;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_COORDINATOR_PROCESS_H_
