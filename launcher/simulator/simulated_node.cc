#include "launcher/simulator/simulated_node.h"

#include <algorithm>
#include <type_traits>

#include "absl/strings/str_cat.h"

namespace muster {
namespace {

constexpr int kKillSignal = 9;
constexpr int Exited(int code) { return code << 8; }

std::string HostName(uint32_t node) { return absl::StrCat("node-", node); }

}  // namespace

SimulatedNode::SimulatedNode(World* world, uint32_t node, Wires wires) : world_(world), node_(node), wires_(std::move(wires)) {
  agent::Options options;
  options.job_id = std::string(16, 'j');
  options.planted_cleared_early = world_->plan.planted_cleared_early;
  options.planted_ignore_spawn = world_->plan.planted_ignore_spawn;
  table_.emplace(std::move(options));
}

size_t SimulatedNode::processes() const { return processes_.size() + static_cast<size_t>(strays_); }

// --- The agent ---

void SimulatedNode::Step(const agent::Event& event) {
  if (!agent_alive()) return;
  const agent::State before = table_->state();
  const agent::Actions actions = table_->Step(world_->time.wall(), event);
  if (table_->state() != before) {
    world_->Trace(absl::StrCat("agent ", node_, " ", agent::StateName(before), " -> ", agent::StateName(table_->state())));
  }
  for (const agent::Action& action : actions) Do(action);
}

void SimulatedNode::Do(const agent::Action& action) {
  std::visit(
      [this](const auto& a) {
        using T = std::decay_t<decltype(a)>;
        if constexpr (std::is_same_v<T, agent::RunPreflight>) Preflight();
        if constexpr (std::is_same_v<T, agent::Send>) {
          CheckSend(a.message);
          wires_.send(a.message);
        }
        if constexpr (std::is_same_v<T, agent::Spawn>) Spawn(a);
        if constexpr (std::is_same_v<T, agent::SignalWorker>) Signal(a);
        if constexpr (std::is_same_v<T, agent::EndTree>) EndTree();
        if constexpr (std::is_same_v<T, agent::BeginGeneration>) {
          port_open_ = true;
          CheckMembers(a);
          for (auto& [slot, process] : processes_) Join(process);
        }
        if constexpr (std::is_same_v<T, agent::EndGeneration>) port_open_ = false;
        if constexpr (std::is_same_v<T, agent::SetTimer> || std::is_same_v<T, agent::CancelTimer>) {
          if (const auto old = timers_.find(a.timer); old != timers_.end()) {
            world_->time.Cancel(old->second);
            timers_.erase(old);
          }
        }
        if constexpr (std::is_same_v<T, agent::SetTimer>) {
          timers_[a.timer] = world_->time.After(a.after, [this, timer = a.timer] {
            timers_.erase(timer);
            Step(agent::TimerFired{timer});
          });
        }
        if constexpr (std::is_same_v<T, agent::LogLine>) world_->Trace(absl::StrCat("agent ", node_, ": ", a.line));
        if constexpr (std::is_same_v<T, agent::Gone>) {
          gone_ = true;
          wires_.agent_ended();
        }
      },
      action);
}

void SimulatedNode::CheckSend(const v1::AgentMessage& message) {
  if (message.has_stopped() && processes() > 0) {
    world_->Violate(absl::StrCat("I8: agent ", node_, " says Stopped while ", processes(), " processes run"));
  }
  if (message.has_cleared() && message.generation() == table_->generation() && processes() > 0) {
    world_->Violate(absl::StrCat("I8: agent ", node_, " says Cleared while ", processes(), " processes run"));
  }
  if (!message.has_ready()) return;
  for (const auto& [slot, process] : processes_) {
    if (process.generation == message.generation()) continue;
    world_->Violate(absl::StrCat("I3: agent ", node_, " is ready for generation ", message.generation(), " while slot ", slot,
                                 " has a process of ", process.generation));
  }
}

// What the workers are told of each other is what runs.
void SimulatedNode::CheckMembers(const agent::BeginGeneration& begin) {
  if ((begin.prepare->nodes() > 1) != (begin.members != nullptr)) {
    world_->Violate(absl::StrCat("members: generation ", begin.generation, " begins on node ", node_, " with ",
                                 begin.members == nullptr ? "no" : "a needless", " table"));
  }
  if (begin.members == nullptr) return;
  for (const v1::Place& place : begin.members->places()) {
    const auto process = processes_.find(place.slot());
    if (place.node() != node_ || process == processes_.end()) continue;
    if (process->second.spawn != place.spawn() || place.data_port() == 0) {
      world_->Violate(
          absl::StrCat("members: slot ", place.slot(), " is spawn ", process->second.spawn, ", not ", place.spawn()));
    }
  }
}

void SimulatedNode::Preflight() {
  world_->time.After(world_->chance.Between(absl::Milliseconds(1), absl::Milliseconds(10)), [this] {
    guard_alive_ = agent_alive();
    v1::Join join;
    join.set_host(HostName(node_));
    join.set_slots(world_->plan.slots);
    join.set_address(absl::StrCat("10.0.0.", node_));
    join.set_master_port(29500);
    Step(agent::PreflightDone{absl::OkStatus(), join});
  });
}

// --- The guard ---

void SimulatedNode::GuardSays(absl::Duration delay, std::function<void()> event) {
  guard_free_at_ = std::max(guard_free_at_, world_->time.now() + delay);
  world_->time.After(guard_free_at_ - world_->time.now(), [this, event = std::move(event)] {
    if (guard_alive_) event();
  });
}

void SimulatedNode::Spawn(const agent::Spawn& spawn) {
  if (!guard_alive_) return;
  const uint32_t slot = spawn.place.slot();
  for (const SimulatedFault& fault : world_->plan.faults) {
    if (fault.kind != SimulatedFault::Kind::kFailSpawn || fault.target != slot) continue;
    AddTruth(static_cast<int32_t>(spawn.place.rank()), spawn.generation, true);
    GuardSays(absl::Milliseconds(1), [this, slot, error = fault.number, number = spawn.spawn] {
      Step(agent::SpawnFailed{slot, error, "execve ./train", number});
    });
    return;
  }
  if (processes_.contains(slot)) {
    world_->Violate(absl::StrCat("I8: slot ", slot, " of node ", node_, " is spawned while its last process runs"));
    return;
  }
  Process& process = processes_[slot];
  process.id = ++next_process_;
  process.place = spawn.place;
  process.spawn = spawn.spawn;
  process.generation = spawn.generation;
  const int64_t done = world_->checkpoint_step > 0 ? world_->checkpoint_step + 1 : 0;
  process.first_step = world_->first_step.emplace(spawn.generation, done).first->second;
  process.world_size = spawn.prepare->world_size();
  process.stubborn = world_->chance.Happens(world_->plan.stubborn);
  Later(process, absl::Milliseconds(1), absl::Milliseconds(20), [this](Process& started) {
    started.running = true;
    GuardSays(absl::ZeroDuration(), [this, slot = started.place.slot(), id = started.id, number = started.spawn] {
      Step(agent::Spawned{slot, static_cast<int64_t>(id), 40000 + slot, number});
    });
    Exec(started);
  });
}

void SimulatedNode::Signal(const agent::SignalWorker& signal) {
  const auto process = processes_.find(signal.slot);
  if (process == processes_.end() || !guard_alive_) return;
  const bool tidies_up = world_->chance.Happens(0.2);  // handles the signal, and exits by itself
  Later(process->second, absl::Microseconds(100), tidies_up ? absl::Milliseconds(50) : absl::Milliseconds(2),
        [this, tidies_up, number = signal.signal](Process& ending) {
          if (!ending.stubborn) End(ending, tidies_up ? Exited(1) : number);
        });
}

void SimulatedNode::EndTree() {
  if (!guard_alive_) return;
  if (world_->plan.planted_stopped_early) {
    world_->time.After(absl::ZeroDuration(), [this] { Step(agent::TreeEnded{}); });
  }
  world_->time.After(world_->chance.Between(absl::Microseconds(500), absl::Milliseconds(3)), [this] {
    if (!guard_alive_) return;
    KillAll(true);
    GuardSays(absl::Microseconds(100), [this] { Step(agent::TreeEnded{}); });
  });
}

void SimulatedNode::KillAll(bool told) {
  while (!processes_.empty()) End(processes_.begin()->second, kKillSignal, told && processes_.begin()->second.running);
  strays_ = 0;
}

// What was told of a process is told once more when the next one of its slot may have begun: an agent must know them apart.
absl::Duration SimulatedNode::LateNews() { return world_->chance.Between(absl::Milliseconds(1), absl::Seconds(1)); }

// --- Processes ---

void SimulatedNode::Later(const Process& process, absl::Duration least, absl::Duration most,
                          std::function<void(Process&)> event) {
  world_->time.After(world_->chance.Between(least, most),
                     [this, slot = process.place.slot(), id = process.id, event = std::move(event)] {
                       const auto found = processes_.find(slot);
                       if (found != processes_.end() && found->second.id == id) event(found->second);
                     });
}

// The process is over; port and guard say so, each in its own time, the port's word never after the guard's.
void SimulatedNode::End(Process& process, int wait_status, bool told, absl::Duration seen_after) {
  if (process.running && world_->chance.Happens(world_->plan.strays)) ++strays_;
  const uint32_t slot = process.place.slot();
  const auto ended = std::make_shared<const Process>(std::move(process));
  processes_.erase(slot);
  const bool lost = ended->joined && !ended->left;
  if (lost) {
    world_->time.After(seen_after, [this, ended] {
      wires_.collectives(ended->generation, ended->world_size).Gone(ended->place.rank(), v1::AbortReason::kPeerLost);
    });
    const auto tell = [this, slot, number = ended->spawn] { Step(agent::WorkerLost{slot, number}); };
    world_->time.After(world_->chance.Between(absl::Microseconds(100), absl::Milliseconds(1)), tell);
    if (world_->chance.Happens(0.2)) world_->time.After(LateNews(), tell);
  } else if (world_->plan.linked && !ended->joined) {
    // It will never contribute: the port says so to those that wait.
    wires_.collectives(ended->generation, ended->world_size).Gone(ended->place.rank(), v1::AbortReason::kPeerLeft);
  }
  if (!told) return;
  const absl::Duration freeing = world_->chance.Between(absl::Microseconds(200), absl::Milliseconds(30));  // of its memory
  GuardSays(freeing, [this, slot, wait_status, lost, ended] {
    if (lost) Step(agent::WorkerLost{slot, ended->spawn});
    Step(agent::Ended{.slot = slot,
                      .wait_status = wait_status,
                      .had_joined = ended->joined,
                      .had_left = ended->left,
                      .last_op_seq = ended->op,
                      .spawn = ended->spawn});
  });
}

void SimulatedNode::Exec(Process& process) {
  if (world_->plan.linked) {
    Do(process, process.session.Step(session::Connected{}));
    Join(process);
  } else {
    Later(process, absl::Milliseconds(5), absl::Milliseconds(60), [this](Process& done) { End(done, Exited(0)); });
  }
}

void SimulatedNode::Join(Process& process) {
  if (!port_open_ || !process.running || process.joined || process.session.state() != session::State::kHelloSent) return;
  Later(process, absl::Microseconds(50), absl::Milliseconds(2), [this](Process& joining) {
    if (joining.joined || !port_open_) return;
    joining.joined = true;
    Do(joining, joining.session.Step(session::GenerationBegun{joining.generation, joining.place.rank(), joining.world_size}));
    Step(agent::WorkerJoined{joining.place.slot(), joining.spawn});
    Compute(joining);
  });
}

// What is left of the work after the checkpoint; at least one call, to find that out together.
uint64_t SimulatedNode::OperationsOf(const Process& process) const {
  const int64_t left = static_cast<int64_t>(world_->plan.steps) - process.first_step;
  return static_cast<uint64_t>(std::max<int64_t>(1, left));
}

// Rank 0 writes it while the others go on; it counts when it is whole.
void SimulatedNode::SaveCheckpoint(Process& process, int64_t step) {
  Later(process, absl::Milliseconds(1), absl::Milliseconds(20), [this, step](Process& saving) {
    world_->checkpoint_step = std::max(world_->checkpoint_step, step);
    Do(saving, saving.session.Step(session::StepCommitted{step, world_->checkpoint_step}));
  });
}

void SimulatedNode::Compute(Process& process) {
  Later(process, absl::Microseconds(100), absl::Milliseconds(5), [this](Process& computing) {
    if (computing.left) return;
    wires_.collectives(computing.generation, computing.world_size)
        .Call(computing.place.rank(), ++computing.op,
              [this, slot = computing.place.slot(), id = computing.id](const OperationResult& result) {
                const auto found = processes_.find(slot);
                if (found != processes_.end() && found->second.id == id) Returned(found->second, result);
              });
  });
}

void SimulatedNode::Returned(Process& process, const OperationResult& result) {
  if (result.success) {
    if (process.op >= 2) {
      const int64_t step = process.first_step + static_cast<int64_t>(process.op) - 2;
      Do(process, process.session.Step(session::StepCommitted{step}));
      const bool due = world_->plan.checkpoint_every > 0 && step > 0 && step % world_->plan.checkpoint_every == 0;
      if (due && process.place.rank() == 0) SaveCheckpoint(process, step);
    }
    if (process.op < OperationsOf(process)) return Compute(process);
    Leave(process);
    Later(process, absl::Microseconds(100), absl::Milliseconds(5), [this](Process& done) { End(done, Exited(0)); });
    return;
  }
  Do(process, process.session.Step(
                  session::CollectiveFailed{result.blamed_rank, static_cast<uint32_t>(result.reason), process.op, "lost"}));
  const uint64_t reaction = world_->chance.Below(10);
  if (reaction < 7) {
    Later(process, absl::ZeroDuration(), absl::Milliseconds(20), [this](Process& failing) { End(failing, Exited(1)); });
  } else if (reaction < 8) {
    Leave(process);
    Later(process, absl::ZeroDuration(), absl::Milliseconds(20), [this](Process& done) { End(done, Exited(0)); });
  }  // else it ignores the error and computes for ever
}

void SimulatedNode::Leave(Process& process) {
  Do(process, process.session.Step(session::LeaveRequested{}));
  Do(process, process.session.Step(session::LeaveSent{}));
}

void SimulatedNode::Do(Process& process, const session::Actions& actions) {
  const uint32_t slot = process.place.slot();
  for (const session::Action& action : actions) {
    if (const auto* blame = std::get_if<session::SendBlame>(&action)) {
      const auto tell = [this, slot, it = *blame, number = process.spawn] {
        Step(agent::WorkerBlamed{slot, it.blamed_rank, it.reason, it.op_seq, it.message, number});
      };
      world_->time.After(world_->chance.Between(absl::Microseconds(50), absl::Milliseconds(2)), tell);
      if (world_->chance.Happens(0.2)) world_->time.After(LateNews(), tell);
    }
    if (const auto* step = std::get_if<session::SendStep>(&action)) {
      world_->time.After(absl::Microseconds(50), [this, slot, it = *step, number = process.spawn] {
        Step(agent::StepReported{slot, it.step, it.checkpoint_step, number});
      });
    }
    if (std::get_if<session::MarkLeft>(&action) != nullptr && process.joined && !process.left) {
      process.left = true;
      wires_.collectives(process.generation, process.world_size).Gone(process.place.rank(), v1::AbortReason::kPeerLeft);
      Step(agent::WorkerLeft{slot, process.spawn});
    }
  }
}

// --- Faults ---

void SimulatedNode::AddTruth(int32_t rank, uint64_t generation, bool must_show) {
  world_->truths.push_back({rank, HostName(node_), generation, must_show, world_->time.now()});
  world_->last_fault_at = world_->time.now();
  world_->Trace(absl::StrCat("fault: ", rank < 0 ? HostName(node_) : absl::StrCat("rank ", rank)));
}

void SimulatedNode::KillWorker(uint32_t slot, int signal) {
  const auto process = processes_.find(slot);
  if (process == processes_.end() || !process->second.running) return;
  AddTruth(static_cast<int32_t>(process->second.place.rank()), process->second.generation, true);
  End(process->second, signal);
}

// When others go as early, nobody may be left to miss it.
bool SimulatedNode::OneGoesEarly() const {
  const std::vector<SimulatedFault>& faults = world_->plan.faults;
  return std::count_if(faults.begin(), faults.end(), [](const SimulatedFault& fault) {
           return fault.kind == SimulatedFault::Kind::kExitEarly || fault.kind == SimulatedFault::Kind::kLeaveEarly;
         }) == 1;
}

void SimulatedNode::ExitWorker(uint32_t slot, int code) {
  const auto process = processes_.find(slot);
  if (process == processes_.end() || !process->second.running) return;
  const Process& it = process->second;
  // With code 0 it is a fault only to those that still wait for it.
  const bool missed = world_->plan.linked && !it.left && it.op < OperationsOf(it) && it.world_size > 1;
  if (code != 0 || missed) AddTruth(static_cast<int32_t>(it.place.rank()), it.generation, code != 0 || OneGoesEarly());
  End(process->second, Exited(code));
}

void SimulatedNode::LeaveEarly(uint32_t slot) {
  const auto process = processes_.find(slot);
  if (process == processes_.end() || !process->second.joined || process->second.left) return;
  if (process->second.op >= OperationsOf(process->second) || process->second.world_size == 1) return;
  AddTruth(static_cast<int32_t>(process->second.place.rank()), process->second.generation, OneGoesEarly());
  Leave(process->second);
  End(process->second, Exited(0));
}

void SimulatedNode::KillGuard() {
  if (!agent_alive() || !guard_alive_ || gone_) return;
  AddTruth(-1, table_->generation(), table_->workers_alive() > 0);
  guard_alive_ = false;
  world_->time.After(world_->chance.Between(absl::Microseconds(500), absl::Milliseconds(5)), [this] {
    KillAll(false);
    Step(agent::GuardLost{});
  });
}

void SimulatedNode::KillAgent() {
  if (!agent_alive()) return;
  AddTruth(-1, table_->generation(), table_->workers_alive() > 0);
  table_.reset();
  for (const auto& [timer, id] : timers_) world_->time.Cancel(id);
  timers_.clear();
  world_->time.After(world_->chance.Between(absl::Microseconds(500), absl::Milliseconds(5)), [this] {
    guard_alive_ = false;
    KillAll(false);
  });
  wires_.agent_ended();
}

// Its peers see nothing but silence for a while.
void SimulatedNode::KillNode() {
  if (!agent_alive() || gone_) return;
  AddTruth(-1, table_->generation(), table_->workers_alive() > 0);
  table_.reset();
  guard_alive_ = false;
  for (const auto& [timer, id] : timers_) world_->time.Cancel(id);
  timers_.clear();
  const absl::Duration seen_after = world_->chance.Between(absl::Milliseconds(100), absl::Seconds(3));
  while (!processes_.empty()) End(processes_.begin()->second, kKillSignal, false, seen_after);
  strays_ = 0;
}

}  // namespace muster
