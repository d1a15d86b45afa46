// The agent's shell: carries out what AgentTable decides, with the guard, the output forwarder and the worker port.
#ifndef MUSTER_LAUNCHER_AGENT_AGENT_H_
#define MUSTER_LAUNCHER_AGENT_AGENT_H_

#include <sys/ioctl.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "launcher/agent/agent_options.h"
#include "launcher/agent/data_listener.h"
#include "launcher/agent/machine.h"
#include "launcher/agent/program_error.h"
#include "launcher/agent/refusal_teller.h"
#include "launcher/agent/reserved_port.h"
#include "launcher/agent/table/agent_table.h"
#include "launcher/agent/topology_teller.h"
#include "launcher/agent/worker_port.h"
#include "launcher/agent/worker_request.h"
#include "launcher/agent/worker_streams.h"
#include "launcher/exchange/node_exchange.h"
#include "launcher/guard/guard_client.h"
#include "launcher/mpi/mpi_servers.h"
#include "muster/v1/agent.pb.h"
#include "runtime/base/event_loop.h"

namespace muster {

// Belongs to the loop's thread. Callbacks come from the loop, never from inside a call to this class.
class Agent {
 public:
  struct Callbacks {
    // In order. Also while there is no channel: whoever carries the messages keeps or drops them.
    std::function<void(v1::AgentMessage message)> send;
    // Nothing of the agent runs any more. Not OK: it could not start.
    std::function<void(absl::Status status)> gone;
    std::function<void(LogLevel level, const std::string& line)> log;
    // A worker's program has begun, so many of this generation on this node; for progress.
    std::function<void(uint32_t started)> started;
  };

  // Starts the guard's process, which gets ready meanwhile.
  static absl::StatusOr<std::unique_ptr<Agent>> Create(EventLoop* loop, AgentOptions options, Callbacks callbacks);
  // Ends the workers with all their descendants, and waits for it.
  ~Agent();

  void Start();
  // A new session with the coordinator (AgentClient's `up`), and its loss (`down`). A session that is resumed is neither.
  void ChannelUp();
  void ChannelLost();
  // Takes all kinds but HoldOutput, which is for whoever carries the output. A RankStatesRequest is answered at once.
  void OnMessage(v1::CoordinatorMessage message);

  // Whether a signal still waits for the start of a worker's program.
  bool signals_wait() const;
  // To every worker's process group: job control (SIGSTOP, SIGCONT) and what is the program's own (SIGUSR1).
  void SignalWorkers(int signal);
  // As a Stop of the coordinator would: a person, or a batch system, wants this node's part to end. Only with has_output().
  void EndWorkers(absl::Duration grace, int signal, const std::string& reason);
  // muster's terminal has a new size.
  void CopyWindowSize(int terminal_fd);
  void SetWindowSize(uint16_t rows, uint16_t columns);
  // Only once it is there: from the start, or with `take_job` from the first Joined on.
  bool has_output() const { return streams_ != nullptr; }
  OutputForwarder& output() { return streams_->output(); }
  // Spawned or being spawned, and their end not seen.
  size_t workers_alive() const { return workers_.size(); }

 private:
  struct Worker {
    uint32_t rank = 0;
    uint32_t spawn = 0;
    DataListener listener;  // where the world has several nodes; goes to the port
    bool started = false;
    std::vector<int> early_signals;  // asked for before it had started
    pid_t pid = 0;
    int64_t step = -1;  // greatest that it has reported as committed
    UniqueFd pidfd;
    UniqueFd pty;  // a second descriptor of its pty's master
  };
  struct Place {
    uint32_t slot = 0;
    uint32_t spawn = 0;
  };

  static constexpr uint32_t kPmixSlot = ~0u;  // muster-pmix is no worker, but ends with the workers' tree

  Agent(EventLoop* loop, AgentOptions options, Callbacks callbacks);

  void TellRankStates();
  v1::AgentMessage NewMessage() const;
  void TakeJobOnce(const v1::Joined& joined);
  absl::Status MakeStreams();
  void TellOutputReady();
  void Post(agent::Event event);
  void PostCall(std::function<void()> call);
  void Step(const agent::Event& event);

  void Do(agent::RunPreflight& action);
  void Do(agent::Send& action);
  void Do(agent::Spawn& action);
  void Do(agent::ExpectWorker& action);
  void Do(agent::SignalWorker& action);
  void Do(agent::EndTree& action);
  void Do(agent::BeginGeneration& action);
  void Do(agent::EndGeneration& action);
  void Do(agent::SetTimer& action);
  void Do(agent::CancelTimer& action);
  void Do(agent::LogLine& action);
  void Do(agent::Gone& action);

  absl::StatusOr<v1::Join> Preflight();
  absl::Status Begin(const agent::BeginGeneration& action);
  void PrepareNccl(const v1::Prepare& prepare);
  absl::StatusOr<SpawnRequest> Request(const agent::Spawn& action);
  absl::Status BeginStreams(const agent::Spawn& action);
  void OnEnded(uint32_t slot, int wait_status);
  std::optional<ProgramError> ErrorOf(uint32_t rank, int wait_status) const;
  void OpenMpi(uint64_t generation);
  void StartPmix(UniqueFd control, UniqueFd listener);
  void BeginMpi(const agent::BeginGeneration& action);
  void EndMpi();
  void OnMpiFailed(uint32_t rank, int exit_code, const std::string& why);
  void OnPmixGone(const std::string& how);
  void TellMpiOfEnd(uint32_t rank, int wait_status);
  void OnTreeEnded();
  GuardClient::Events GuardEvents();
  WorkerPort::Events PortEvents();

  EventLoop* const loop_;
  AgentOptions options_;  // complete from the start, or from the first Joined on
  absl::Status job_taken_;
  Callbacks callbacks_;
  AgentTable table_;
  std::optional<ReservedPort> reserved_port_;
  ErrorTails error_tails_;
  std::unique_ptr<WorkerStreams> streams_;
  absl::Status streams_begun_;          // of the generation `spawning_`
  std::map<uint32_t, Worker> workers_;  // by slot
  std::map<uint32_t, Place> spawned_;   // by rank: the workers of the generation `spawning_`, those that have ended too
  std::optional<winsize> window_size_;  // the last one that was said
  std::optional<OutOfMemoryKills> kills_before_;
  int usable_cores_ = 1;
  TopologyTeller topology_;
  WorkerNccl nccl_;           // of the generation whose workers are being spawned
  uint64_t spawning_ = 0;     // the newest generation that workers were started for
  uint32_t started_ = 0;      // of it
  uint64_t incarnation_ = 0;  // greatest that a coordinator has had
  RefusalTeller refusals_;
  bool guard_lost_ = false;
  std::optional<EventLoop::TimerId> timers_[agent::kTimers];
  NodeExchange exchange_;
  std::unique_ptr<MpiServers> mpi_;  // of the newest generation; null: none, or it cannot be had
  std::set<uint32_t> mpi_blamed_;    // ranks of `spawned_` that MPI says something against
  bool worker_is_ending_ = false;    // within OnEnded: what speaks against it comes before its end
  std::unique_ptr<WorkerPort> port_;
  absl::StatusOr<BegunGuard> begun_guard_ = absl::FailedPreconditionError("the guard serves already");  // until Preflight
  std::unique_ptr<GuardClient> guard_;
  // Posted work outlives this object; it looks here first.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_AGENT_H_
