// The agent's shell: carries out what AgentTable decides, with the guard, the output forwarder and the worker port.
#ifndef MUSTER_LAUNCHER_AGENT_AGENT_H_
#define MUSTER_LAUNCHER_AGENT_AGENT_H_

#include <sys/ioctl.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "launcher/agent/core_locks.h"
#include "launcher/agent/data_listener.h"
#include "launcher/agent/machine.h"
#include "launcher/agent/output.h"
#include "launcher/agent/reserved_port.h"
#include "launcher/agent/stdin_forwarder.h"
#include "launcher/agent/table/agent_table.h"
#include "launcher/agent/worker_port.h"
#include "launcher/guard/guard_client.h"
#include "muster/v1/agent.pb.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/refusal_tally.h"

namespace muster {

// What the ranks of one program of the job run.
struct WorkerProgram {
  std::string program;  // a path
  std::vector<std::string> argv;
  std::vector<std::string> chosen_environment;  // over the job's own
  std::string working_directory;                // empty: the job's
  uint32_t workers = 0;                         // of the whole job
};

struct AgentOptions {
  std::string job_id;                 // 16 bytes
  std::string host;                   // as gethostname says
  std::string address = "127.0.0.1";  // numeric, where other nodes reach this one
  uint32_t slots = 1;
  absl::Duration orphan_after = absl::Seconds(40);  // from ChannelLost to the end of the workers
  uint16_t master_port = 0;    // what Join offers; 0: reserve one. A port that the job has chosen is the coordinator's to say.
  std::string guard_path;      // the executable muster-guard
  std::string session_folder;  // TMPDIR of the workers, made by the caller, removed by the guard; empty: none

  // Where the coordinator is another process, what the workers are and where their output goes comes with Joined. Called once,
  // with the first one: fills in everything below (TakeJob does what the JobSpec says; left are the program's path, where the
  // output goes and the inherited environment). There is no output() before it. An error is each worker's reason why it could
  // not be started. Empty: all below is said from the start.
  std::function<absl::Status(const v1::JobSpec& job, AgentOptions* options)> take_job;

  // What the workers are.
  std::string program;  // a path
  std::vector<std::string> argv;
  std::vector<std::string> inherited_environment;  // "NAME=value"
  std::vector<std::string> chosen_environment;     // over it
  std::string working_directory;                   // empty: ours
  std::optional<v1::Placement> placement;          // the coordinator is told the machine's topology then
  v1::CheckpointSettings checkpoint;               // the job's, for those that ask their Session
  std::vector<WorkerProgram> applications;         // several programs, by Place.application; empty: `program` on every rank

  OutputOptions output;
  bool pty_stdout = false;  // a worker's stdout is a pty
  int stdin_fd = -1;        // for rank 0; borrowed; -1: none
  bool fed_stdin = false;   // rank 0's stdin is what Input messages bring
};

// Command, chosen environment, working directory, checkpoint settings and the kind of output, as `job` says. `program` is the
// command's first word, which is not looked up in PATH here.
void TakeJob(const v1::JobSpec& job, AgentOptions* options);

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
  bool has_output() const { return output_ != nullptr; }
  OutputForwarder& output() { return *output_; }
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

  Agent(EventLoop* loop, AgentOptions options, Callbacks callbacks);

  void FeedStdin();
  void TellInputTaken(bool closed);
  void TellRankStates();
  v1::AgentMessage NewMessage() const;
  void OnRefused(RefusalCount refused);
  void TellRefusals();
  v1::AgentMessage NextRefusal();
  void TakeJobOnce(const v1::Joined& joined);
  void TellTopology();
  void SendTopology(std::string xml, const std::vector<HeldCpus>& held);
  void SettleCores(const v1::Prepare& prepare);
  absl::Status MakeOutput();
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
  absl::StatusOr<SpawnRequest> Request(const agent::Spawn& action);
  WorkerProgram ProgramOf(uint32_t application) const;
  absl::Status OpenStreams(uint32_t rank, Worker* worker, SpawnRequest* request);
  void OnEnded(uint32_t slot, int wait_status);
  void OnTreeEnded();
  GuardClient::Events GuardEvents();
  WorkerPort::Events PortEvents();

  EventLoop* const loop_;
  AgentOptions options_;  // complete from the start, or from the first Joined on
  absl::Status job_taken_;
  Callbacks callbacks_;
  AgentTable table_;
  std::optional<ReservedPort> reserved_port_;
  std::unique_ptr<OutputForwarder> output_;
  std::unique_ptr<StdinForwarder> stdin_;
  std::unique_ptr<FedStdin> fed_stdin_;  // of the newest rank 0
  std::optional<v1::Input> input_;       // not fed yet
  bool input_owed_ = false;   // an InputTaken, for what was fed last
  bool input_ended_ = false;
  std::map<uint32_t, Worker> workers_;  // by slot
  std::optional<winsize> window_size_;  // the last one that was said
  std::optional<OutOfMemoryKills> kills_before_;
  std::optional<CoreLocks> core_locks_;  // where workers are to be bound
  std::optional<EventLoop::TimerId> topology_timer_;  // to the next look at cores that others are about to let go of
  int topology_looks_ = 0;
  uint64_t spawning_ = 0;     // the newest generation that workers were started for
  uint32_t started_ = 0;      // of it
  uint64_t incarnation_ = 0;  // greatest that a coordinator has had
  RefusalTally refusals_;
  std::optional<EventLoop::TimerId> refusal_timer_;  // until the next ones may be told
  bool guard_lost_ = false;
  std::optional<EventLoop::TimerId> timers_[agent::kTimers];
  std::unique_ptr<WorkerPort> port_;
  std::unique_ptr<GuardClient> guard_;
  // Posted work outlives this object; it looks here first.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_AGENT_H_
