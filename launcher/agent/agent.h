// The agent's shell: carries out what AgentTable decides, with the guard, the output forwarder and the worker port.
#ifndef MUSTER_LAUNCHER_AGENT_AGENT_H_
#define MUSTER_LAUNCHER_AGENT_AGENT_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launcher/agent/machine.h"
#include "launcher/agent/output.h"
#include "launcher/agent/reserved_port.h"
#include "launcher/agent/stdin_forwarder.h"
#include "launcher/agent/table/agent_table.h"
#include "launcher/agent/worker_port.h"
#include "launcher/guard/guard_client.h"
#include "muster/v1/agent.pb.h"
#include "runtime/base/event_loop.h"

namespace muster {

struct AgentOptions {
  std::string job_id;                 // 16 bytes
  std::string host;                   // as gethostname says
  std::string address = "127.0.0.1";  // numeric, where other nodes reach this one
  uint32_t slots = 1;
  uint16_t master_port = 0;    // 0: reserve one
  std::string guard_path;      // the executable muster-guard
  std::string session_folder;  // TMPDIR of the workers, made by the caller, removed by the guard; empty: none

  // What the workers are.
  std::string program;  // a path
  std::vector<std::string> argv;
  std::vector<std::string> inherited_environment;  // "NAME=value"
  std::vector<std::string> chosen_environment;     // over it
  std::string working_directory;                   // empty: ours

  OutputOptions output;
  bool pty_stdout = false;  // a worker's stdout is a pty
  int stdin_fd = -1;        // for rank 0; borrowed; -1: none
};

// Belongs to the loop's thread. Callbacks come from the loop, never from inside a call to this class.
class Agent {
 public:
  struct Callbacks {
    // In order.
    std::function<void(v1::AgentMessage message)> send;
    // Nothing of the agent runs any more. Not OK: it could not start.
    std::function<void(absl::Status status)> gone;
    std::function<void(LogLevel level, const std::string& line)> log;
    // A worker's program has begun; for progress.
    std::function<void(uint32_t started)> started;
  };

  static absl::StatusOr<std::unique_ptr<Agent>> Create(EventLoop* loop, AgentOptions options, Callbacks callbacks);
  // Ends the workers with all their descendants, and waits for it.
  ~Agent();

  void Start();
  void ChannelUp();
  void ChannelLost();
  void OnMessage(v1::CoordinatorMessage message);

  // To every worker's process group: job control (SIGSTOP, SIGCONT) and what is the program's own (SIGUSR1).
  void SignalWorkers(int signal);
  // muster's terminal has a new size.
  void CopyWindowSize(int terminal_fd);
  OutputForwarder& output() { return *output_; }
  // Spawned or being spawned, and their end not seen.
  size_t workers_alive() const { return workers_.size(); }

 private:
  struct Worker {
    uint32_t rank = 0;
    bool started = false;
    std::vector<int> early_signals;  // asked for before it had started
    UniqueFd pidfd;
    UniqueFd pty;  // a second descriptor of its pty's master
  };

  Agent(EventLoop* loop, AgentOptions options, Callbacks callbacks, std::unique_ptr<OutputForwarder> output);

  void Post(agent::Event event);
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
  absl::StatusOr<SpawnRequest> Request(const agent::Spawn& action);
  absl::Status OpenStreams(uint32_t rank, Worker* worker, SpawnRequest* request);
  void OnEnded(uint32_t slot, int wait_status);
  GuardClient::Events GuardEvents();
  WorkerPort::Events PortEvents();

  EventLoop* const loop_;
  const AgentOptions options_;
  Callbacks callbacks_;
  AgentTable table_;
  std::optional<ReservedPort> reserved_port_;
  std::unique_ptr<OutputForwarder> output_;
  std::unique_ptr<StdinForwarder> stdin_;
  std::map<uint32_t, Worker> workers_;  // by slot
  std::optional<OutOfMemoryKills> kills_before_;
  uint32_t started_ = 0;
  bool guard_lost_ = false;
  std::optional<EventLoop::TimerId> timers_[agent::kTimers];
  std::unique_ptr<WorkerPort> port_;
  std::unique_ptr<GuardClient> guard_;
  // Posted work outlives this object; it looks here first.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_AGENT_H_
