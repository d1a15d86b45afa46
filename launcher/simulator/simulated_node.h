// A node: its agent's table, and a guard, a worker port and processes that behave as the real ones promise to.
#ifndef MUSTER_LAUNCHER_SIMULATOR_SIMULATED_NODE_H_
#define MUSTER_LAUNCHER_SIMULATOR_SIMULATED_NODE_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "launcher/agent/table/agent_table.h"
#include "launcher/simulator/simulated_collectives.h"
#include "launcher/simulator/world.h"
#include "runtime/session/table/session_table.h"

namespace muster {

class SimulatedNode {
 public:
  struct Wires {
    std::function<void(const v1::AgentMessage&)> send;
    std::function<SimulatedCollectives&(uint64_t generation, uint32_t world_size)> collectives;
    std::function<void()> agent_ended;  // its process: killed, or gone by itself
  };

  SimulatedNode(World* world, uint32_t node, Wires wires);

  void Start() { Step(agent::Started{}); }
  void ChannelUp() { Step(agent::ChannelUp{}); }
  void ChannelLost() { Step(agent::ChannelLost{}); }
  void Receive(const v1::CoordinatorMessage& message) { Step(agent::Received{message}); }

  // Faults; those that find nothing to break do nothing.
  void KillWorker(uint32_t slot, int signal);
  void ExitWorker(uint32_t slot, int code);
  void LeaveEarly(uint32_t slot);
  void KillGuard();
  void KillAgent();
  void KillNode();

  bool agent_alive() const { return table_.has_value(); }
  bool gone() const { return gone_; }
  size_t processes() const;  // of workers and what they left behind
  bool Holds(uint32_t slot) const { return processes_.contains(slot); }

 private:
  struct Process {
    uint64_t id = 0;  // what was meant for an earlier process of the slot does not reach this one
    v1::Place place;
    uint32_t spawn = 0;
    uint64_t generation = 0;
    uint32_t world_size = 0;
    int64_t first_step = 0;  // where it takes up the work
    bool running = false;    // exec'ed
    bool joined = false;
    bool left = false;
    bool stubborn = false;
    uint64_t op = 0;  // last contributed
    SessionTable session{session::Options{}};
  };

  void Step(const agent::Event& event);
  void Do(const agent::Action& action);
  void Preflight();
  void Spawn(const agent::Spawn& spawn);
  void Exec(Process& process);
  void Join(Process& process);
  void Compute(Process& process);
  void Returned(Process& process, const OperationResult& result);
  void Leave(Process& process);
  void Do(Process& process, const session::Actions& actions);
  void Signal(const agent::SignalWorker& signal);
  void EndTree();
  void KillAll(bool told);
  void End(Process& process, int wait_status, bool told = true, absl::Duration seen_after = absl::ZeroDuration());
  void CheckMembers(const agent::BeginGeneration& begin);
  void SaveCheckpoint(Process& process, int64_t step);
  uint64_t OperationsOf(const Process& process) const;
  void Later(const Process& process, absl::Duration least, absl::Duration most, std::function<void(Process&)> event);
  absl::Duration LateNews();
  void GuardSays(absl::Duration delay, std::function<void()> event);
  void CheckSend(const v1::AgentMessage& message);
  bool OneGoesEarly() const;
  void AddTruth(int32_t rank, uint64_t generation, bool must_show);

  World* const world_;
  const uint32_t node_;
  const Wires wires_;
  std::optional<AgentTable> table_;  // none: the agent is dead
  bool guard_alive_ = false;
  bool gone_ = false;
  bool port_open_ = false;                 // a generation has begun here
  std::map<uint32_t, Process> processes_;  // by slot
  uint64_t next_process_ = 0;
  int strays_ = 0;
  absl::Duration guard_free_at_;  // the guard's messages come in order
  std::map<agent::Timer, VirtualTime::Id> timers_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_SIMULATOR_SIMULATED_NODE_H_
