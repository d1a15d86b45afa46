#include "launcher/simulator/simulation.h"

#include <algorithm>
#include <functional>
#include <map>
#include <memory>

#include "absl/strings/str_cat.h"
#include "launcher/simulator/simulated_collectives.h"
#include "launcher/simulator/simulated_coordinator.h"
#include "launcher/simulator/simulated_node.h"
#include "launcher/simulator/world.h"

namespace muster {
namespace {

using FaultKind = SimulatedFault::Kind;

constexpr absl::Duration kHorizon = absl::Minutes(10);
constexpr uint64_t kEventsMax = 2'000'000;
constexpr absl::Duration kSessionTime = absl::Seconds(10);  // that a broken stream's session waits for the next

// Nodes, a coordinator, and the streams between them: in order within one, any order across.
class Simulation {
 public:
  explicit Simulation(const SimulationPlan& plan);
  SimulationResult Run();

 private:
  struct Stream {
    uint64_t connection = 0;  // what was sent on an earlier one is lost
    bool up = false;
    bool process_ended = false;  // the agent's
    bool cut = false;            // carries nothing for now; what is sent comes later, if the session lives so long
    std::vector<std::function<void()>> held;
    absl::Duration to_coordinator;
    absl::Duration to_node;
    absl::Duration heard_at;
  };

  void MakeNode(uint32_t node);
  void StartNode(uint32_t node);
  void Connect(uint32_t node);
  void OnAgentEnded(uint32_t node);
  void EndSession(uint32_t node, const membership::AgentLost& lost);
  void KillNode(uint32_t node);
  void CutNode(uint32_t node, absl::Duration how_long);
  void LookForSilence();
  void Deliver(uint32_t node, absl::Duration& in_order, std::function<void()> event);
  void ToCoordinator(uint32_t node, membership::Event event);
  void ToNode(uint32_t node, const v1::CoordinatorMessage& message);
  void Inject(const SimulatedFault& fault);
  void KillCoordinator(bool for_good);
  SimulatedNode* NodeOfSlot(uint32_t slot);
  void CheckEnd(const SimulationResult& result);
  void CheckVerdict(const v1::Verdict& verdict);
  bool MustGoWell() const;
  absl::Duration TimeAllowed() const;
  bool Has(FaultKind kind) const;

  World world_;
  SimulatedCoordinator coordinator_;
  std::vector<std::unique_ptr<SimulatedNode>> nodes_;
  std::vector<std::unique_ptr<SimulatedNode>> former_;  // their agents are dead
  std::vector<Stream> streams_;
  std::map<uint64_t, std::unique_ptr<SimulatedCollectives>> collectives_;
  bool coordinator_lost_ = false;
  uint64_t last_generation_ = 0;
};

Simulation::Simulation(const SimulationPlan& plan)
    : world_(plan),
      coordinator_(&world_, [this](uint32_t node, const v1::CoordinatorMessage& message) { ToNode(node, message); }),
      streams_(plan.nodes) {
  nodes_.resize(plan.nodes);
  for (uint32_t node = 0; node < plan.nodes; ++node) MakeNode(node);
}

void Simulation::MakeNode(uint32_t node) {
  SimulatedNode::Wires wires;
  wires.send = [this, node](const v1::AgentMessage& message) { ToCoordinator(node, membership::Received{node, message}); };
  wires.agent_ended = [this, node] { OnAgentEnded(node); };
  wires.collectives = [this](uint64_t generation, uint32_t world_size) -> SimulatedCollectives& {
    auto& collectives = collectives_[generation];
    if (collectives == nullptr) collectives = std::make_unique<SimulatedCollectives>(&world_, world_size);
    return *collectives;
  };
  if (nodes_[node] != nullptr) former_.push_back(std::move(nodes_[node]));
  nodes_[node] = std::make_unique<SimulatedNode>(&world_, node, std::move(wires));
}

// --- Streams ---

void Simulation::Connect(uint32_t node) {
  Stream& stream = streams_[node];
  if (coordinator_lost_ || stream.up || !nodes_[node]->agent_alive() || stream.process_ended) return;
  if (!coordinator_.alive() || stream.cut) {
    world_.time.After(world_.chance.Between(absl::Milliseconds(50), absl::Milliseconds(300)), [this, node] { Connect(node); });
    return;
  }
  ++stream.connection;
  stream.up = true;
  stream.heard_at = world_.time.now();
  nodes_[node]->ChannelUp();
  if (nodes_[node]->gone()) OnAgentEnded(node);
}

// In order with all else that goes this way on this connection.
void Simulation::Deliver(uint32_t node, absl::Duration& in_order, std::function<void()> event) {
  in_order = std::max(in_order, world_.time.now() + world_.chance.Between(absl::Microseconds(20), absl::Milliseconds(20)));
  world_.time.After(in_order - world_.time.now(),
                    [this, node, connection = streams_[node].connection, event = std::move(event)] {
                      Stream& stream = streams_[node];
                      if (stream.connection != connection || !stream.up) return;
                      stream.cut ? stream.held.push_back(event) : event();
                    });
}

void Simulation::ToCoordinator(uint32_t node, membership::Event event) {
  if (!streams_[node].up) return;
  Deliver(node, streams_[node].to_coordinator, [this, node, event = std::move(event)] {
    streams_[node].heard_at = world_.time.now();
    coordinator_.Step(event);
  });
}

void Simulation::ToNode(uint32_t node, const v1::CoordinatorMessage& message) {
  last_generation_ = std::max(last_generation_, message.generation());
  if (!streams_[node].up) return;
  Deliver(node, streams_[node].to_node, [this, node, message] { nodes_[node]->Receive(message); });
}

// --- Nodes that go and come back ---

void Simulation::EndSession(uint32_t node, const membership::AgentLost& lost) {
  Stream& stream = streams_[node];
  if (!stream.up) return;
  stream.up = false;
  stream.held.clear();
  coordinator_.Step(lost);
}

// The coordinator hears of it from the stream, after all that was sent, or from who started the agent, sooner than that. An agent
// that goes by itself waits until all it has sent has arrived.
void Simulation::OnAgentEnded(uint32_t node) {
  const auto start_again = [this, node] {
    streams_[node].process_ended = true;
    if (!world_.plan.starter) return;
    world_.time.After(world_.chance.Between(absl::Milliseconds(50), absl::Milliseconds(500)),
                      [this, node] { StartNode(node); });
  };
  const membership::AgentLost lost{node, "its process ended", false};
  if (nodes_[node]->agent_alive() && nodes_[node]->gone()) {
    if (!streams_[node].up) return;
    return Deliver(node, streams_[node].to_coordinator, [this, lost, start_again] {
      EndSession(lost.node, lost);
      start_again();
    });
  }
  start_again();
  if (streams_[node].up && !streams_[node].cut && world_.chance.Happens(0.5)) {
    Deliver(node, streams_[node].to_coordinator, [this, lost] { EndSession(lost.node, lost); });
  } else {
    world_.time.After(world_.chance.Between(absl::Microseconds(20), absl::Milliseconds(5)),
                      [this, lost, connection = streams_[node].connection] {
                        if (streams_[lost.node].connection == connection) EndSession(lost.node, lost);
                      });
  }
}

void Simulation::StartNode(uint32_t node) {
  if (coordinator_lost_ || coordinator_.judgement()) return;
  if (nodes_[node]->agent_alive() && !streams_[node].process_ended) return;
  EndSession(node, {node, "its process ended", false});  // whoever starts it again has noticed
  world_.last_fault_at = world_.time.now();
  world_.Trace(absl::StrCat("node ", node, " starts again"));
  streams_[node].process_ended = false;
  MakeNode(node);
  nodes_[node]->Start();
  Connect(node);
}

// Nobody tells of it: its stream is silent until the session's time is over.
void Simulation::KillNode(uint32_t node) {
  if (!nodes_[node]->agent_alive() || nodes_[node]->gone()) return;
  nodes_[node]->KillNode();
  world_.time.After(kSessionTime, [this, node, connection = streams_[node].connection] {
    if (streams_[node].connection == connection) EndSession(node, {node, "its stream broke and no other came", true});
  });
  if (!world_.plan.starter) return;
  world_.time.After(world_.chance.Between(absl::Milliseconds(500), absl::Seconds(15)), [this, node] { StartNode(node); });
}

void Simulation::CutNode(uint32_t node, absl::Duration how_long) {
  Stream& stream = streams_[node];
  if (stream.cut || !stream.up || !nodes_[node]->agent_alive() || nodes_[node]->gone()) return;
  world_.truths.push_back({-1, absl::StrCat("node-", node), last_generation_, false, world_.time.now()});
  world_.Trace(absl::StrCat("node ", node, " is cut off for ", absl::FormatDuration(how_long)));
  stream.cut = true;
  world_.time.After(kSessionTime, [this, node, connection = stream.connection] {
    if (streams_[node].cut && streams_[node].connection == connection) {
      EndSession(node, {node, "its stream broke and no other came", true});
    }
  });
  world_.time.After(how_long, [this, node] {
    world_.last_fault_at = world_.time.now();
    world_.Trace(absl::StrCat("node ", node, " is heard again"));
    streams_[node].cut = false;
    if (!streams_[node].up) return Connect(node);
    const auto held = std::move(streams_[node].held);
    streams_[node].held.clear();
    for (const auto& event : held) {
      if (streams_[node].up) event();
    }
  });
}

void Simulation::LookForSilence() {
  if (coordinator_lost_ || coordinator_.judgement()) return;
  for (uint32_t node = 0; node < nodes_.size(); ++node) {
    const absl::Duration silence = world_.time.now() - streams_[node].heard_at;
    if (streams_[node].up && silence >= absl::Seconds(3)) coordinator_.Step(membership::AgentSilent{node, silence});
  }
  world_.time.After(absl::Seconds(1), [this] { LookForSilence(); });
}

void Simulation::KillCoordinator(bool for_good) {
  if (!coordinator_.alive() || coordinator_.judgement()) return;
  world_.last_fault_at = world_.time.now();
  coordinator_.Kill();
  coordinator_lost_ = for_good;
  for (uint32_t node = 0; node < nodes_.size(); ++node) {
    if (!streams_[node].up) continue;
    streams_[node].up = false;
    streams_[node].held.clear();
    world_.time.After(world_.chance.Between(absl::Microseconds(50), absl::Milliseconds(50)), [this, node] {
      if (!streams_[node].up) nodes_[node]->ChannelLost();
      Connect(node);
    });
  }
  if (!for_good) {
    world_.time.After(world_.chance.Between(absl::Milliseconds(5), absl::Seconds(2)), [this] { coordinator_.Start(); });
  }
}

// --- Faults ---

SimulatedNode* Simulation::NodeOfSlot(uint32_t slot) {
  for (const auto& node : nodes_) {
    if (node->Holds(slot)) return node.get();
  }
  return nodes_.front().get();
}

void Simulation::Inject(const SimulatedFault& fault) {
  switch (fault.kind) {
    case FaultKind::kKillWorker:
      return NodeOfSlot(fault.target)->KillWorker(fault.target, fault.number);
    case FaultKind::kExitWorker:
      return NodeOfSlot(fault.target)->ExitWorker(fault.target, fault.number);
    case FaultKind::kExitEarly:
      return NodeOfSlot(fault.target)->ExitWorker(fault.target, 0);
    case FaultKind::kLeaveEarly:
      return NodeOfSlot(fault.target)->LeaveEarly(fault.target);
    case FaultKind::kFailSpawn:
      return;  // the guard looks for it
    case FaultKind::kKillGuard:
      return nodes_[fault.target]->KillGuard();
    case FaultKind::kKillAgent:
      return nodes_[fault.target]->KillAgent();
    case FaultKind::kKillNode:
      return KillNode(fault.target);
    case FaultKind::kCutNode:
      return CutNode(fault.target, absl::Milliseconds(fault.number));
    case FaultKind::kKillCoordinator:
      return KillCoordinator(false);
    case FaultKind::kLoseCoordinator:
      return KillCoordinator(true);
    case FaultKind::kStop:
      if (!coordinator_.alive() || coordinator_.judgement()) return;
      world_.stop_requested = true;
      world_.last_fault_at = world_.time.now();
      world_.Trace("stop requested");
      return coordinator_.Step(membership::StopRequested{StopKind::kInterrupt});
  }
}

// --- The end ---

bool Simulation::Has(FaultKind kind) const {
  return std::any_of(world_.plan.faults.begin(), world_.plan.faults.end(),
                     [kind](const auto& fault) { return fault.kind == kind; });
}

// I6: from the last thing that broke to the verdict.
absl::Duration Simulation::TimeAllowed() const {
  // A restart takes the time of the whole work once more, and before it that of a last call.
  const absl::Duration restart = world_.plan.last_call + absl::Seconds(3) + world_.plan.steps * absl::Milliseconds(10);
  const absl::Duration once_more = world_.plan.max_restarts > 0 ? 2 * restart : absl::ZeroDuration();
  const bool member_may_not_return = Has(FaultKind::kKillCoordinator);
  const bool too_few_nodes =
      Has(FaultKind::kKillAgent) || Has(FaultKind::kKillGuard) || Has(FaultKind::kKillNode) || Has(FaultKind::kCutNode);
  if (member_may_not_return || too_few_nodes) return absl::Seconds(80) + once_more;  // the ends of FORMING and RESUMING
  return once_more + (world_.stop_requested ? absl::Seconds(8) : absl::Seconds(3));
}

// Nothing is wrong with the program, lost nodes come back, and restarts are left for every fault.
bool Simulation::MustGoWell() const {
  const bool curable = std::none_of(world_.plan.faults.begin(), world_.plan.faults.end(), [](const SimulatedFault& fault) {
    return fault.kind == FaultKind::kFailSpawn || fault.kind == FaultKind::kStop || fault.kind == FaultKind::kLoseCoordinator;
  });
  const bool long_away = Has(FaultKind::kKillNode) || Has(FaultKind::kCutNode);
  const bool waits = !long_away || world_.plan.last_call >= absl::Seconds(30);
  return curable && waits && world_.plan.starter && world_.plan.max_restarts >= 4 * world_.plan.faults.size();
}

void Simulation::CheckVerdict(const v1::Verdict& verdict) {
  if (verdict.exit_code() != 0) {
    if (verdict.sentence().empty()) world_.Violate("verdict: a failure without a sentence");
    if (!coordinator_.checker().IsTrue(verdict, last_generation_, coordinator_.starts())) {
      world_.Violate(absl::StrCat("verdict: names what did not break: ", verdict.sentence()));
    }
    if (MustGoWell()) world_.Violate(absl::StrCat("restarts: given up though more were left: ", verdict.sentence()));
    return;
  }
  for (const Truth& truth : world_.truths) {
    if (truth.must_show && truth.generation == last_generation_) {
      world_.Violate(absl::StrCat("verdict: all well, though ", truth.rank < 0 ? truth.host : absl::StrCat("rank ", truth.rank),
                                  " broke"));
    }
  }
}

void Simulation::CheckEnd(const SimulationResult& result) {
  if (!coordinator_lost_) {
    if (!result.judgement) {
      world_.Violate("I6: the job never ended");
    } else {
      CheckVerdict(result.judgement->verdict);
    }
  }
  for (const auto& node : former_) {
    if (node->processes() > 0) world_.Violate("I8: processes are left of an agent that was started again since");
  }
  for (size_t node = 0; node < nodes_.size(); ++node) {
    if (nodes_[node]->processes() > 0) world_.Violate(absl::StrCat("I8: processes are left on node ", node));
    if (nodes_[node]->agent_alive() && !nodes_[node]->gone())
      world_.Violate(absl::StrCat("I8: agent ", node, " outlives the job"));
  }
}

SimulationResult Simulation::Run() {
  coordinator_.Start();
  for (uint32_t node = 0; node < nodes_.size(); ++node) {
    world_.time.After(world_.chance.Between(absl::ZeroDuration(), absl::Milliseconds(20)), [this, node] {
      nodes_[node]->Start();
      Connect(node);
    });
  }
  LookForSilence();
  for (const SimulatedFault& fault : world_.plan.faults) {
    world_.time.After(fault.at, [this, fault] { Inject(fault); });
  }

  SimulationResult result;
  while (world_.time.now() < kHorizon && result.events < kEventsMax && world_.time.RunOne()) {
    ++result.events;
    if (coordinator_.judgement() && !result.judgement) {
      result.judgement = coordinator_.judgement();
      result.ended_at = world_.time.now();
      if (result.ended_at - world_.last_fault_at > TimeAllowed()) {
        world_.Violate(absl::StrCat("I6: the verdict came ", absl::FormatDuration(result.ended_at - world_.last_fault_at),
                                    " after the last fault"));
      }
    }
  }
  CheckEnd(result);
  result.incarnations = coordinator_.starts();
  result.restarts = coordinator_.restarts();
  result.violations = std::move(world_.violations);
  result.trace = std::move(world_.trace);
  return result;
}

const char* FaultName(FaultKind kind) {
  static constexpr const char* kNames[] = {"kill worker", "exit worker",      "exit early",       "leave early",
                                           "fail spawn",  "kill guard",       "kill agent",       "kill node",
                                           "cut node",    "kill coordinator", "lose coordinator", "stop"};
  return kNames[static_cast<size_t>(kind)];
}

SimulatedFault DrawFault(const SimulationPlan& plan, Chance& chance) {
  SimulatedFault fault;
  fault.kind = static_cast<FaultKind>(chance.Below(12));
  const bool of_node = fault.kind == FaultKind::kKillGuard || fault.kind == FaultKind::kKillAgent ||
                       fault.kind == FaultKind::kKillNode || fault.kind == FaultKind::kCutNode;
  fault.target = static_cast<uint32_t>(chance.Below(of_node ? plan.nodes : plan.workers));
  fault.at = chance.Between(absl::ZeroDuration(), absl::Milliseconds(80 + 8 * plan.steps));
  static constexpr int kSignals[] = {9, 11, 6, 15};
  static constexpr int kErrors[] = {2, 13, 12};  // ENOENT, EACCES, ENOMEM
  if (fault.kind == FaultKind::kKillWorker) fault.number = kSignals[chance.Below(4)];
  if (fault.kind == FaultKind::kExitWorker) fault.number = 1 + static_cast<int>(chance.Below(100));
  if (fault.kind == FaultKind::kCutNode) fault.number = static_cast<int>(chance.Below(chance.Happens(0.5) ? 3000 : 20000));
  if (fault.kind == FaultKind::kFailSpawn) fault.number = kErrors[chance.Below(3)];
  return fault;
}

}  // namespace

SimulationPlan DrawPlan(uint64_t seed) {
  Chance chance(seed ^ 0x9e3779b97f4a7c15);
  SimulationPlan plan;
  plan.seed = seed;
  plan.nodes = 1 + static_cast<uint32_t>(chance.Below(4));
  plan.slots = 1 + static_cast<uint32_t>(chance.Below(4));
  plan.workers = 1 + static_cast<uint32_t>(chance.Below(plan.nodes * plan.slots));
  plan.steps = 1 + static_cast<uint32_t>(chance.Below(30));
  plan.linked = chance.Happens(0.75);
  plan.stubborn = chance.Happens(0.3) ? 0.5 : 0;
  plan.strays = chance.Happens(0.3) ? 0.5 : 0;
  if (chance.Happens(0.6)) {
    plan.max_restarts = 1 + static_cast<uint32_t>(chance.Below(chance.Happens(0.5) ? 3 : 30));
    plan.starter = chance.Happens(0.7);
    plan.workers_min = 1 + static_cast<uint32_t>(chance.Below(plan.workers));
    plan.checkpoint_every = static_cast<uint32_t>(chance.Below(8));
    plan.last_call = chance.Happens(0.5) ? absl::Seconds(5) : absl::Seconds(30);
  }
  const uint64_t faults = chance.Below(plan.max_restarts > 0 ? 6 : 4);
  for (uint64_t i = 0; i < faults; ++i) plan.faults.push_back(DrawFault(plan, chance));
  const uint32_t needed = (plan.workers + plan.slots - 1) / plan.slots;
  if (chance.Happens(0.4)) plan.spares = static_cast<uint32_t>(chance.Below(plan.nodes - needed + 1));
  plan.ordered = chance.Happens(0.5);
  return plan;
}

std::string Describe(const SimulationPlan& plan) {
  std::string text =
      absl::StrCat("seed ", plan.seed, ": ", plan.nodes, " nodes x ", plan.slots, " slots, ", plan.spares, " of them spares, ",
                   plan.workers, plan.linked ? " linked" : " plain", " workers, ", plan.steps, " steps");
  if (plan.max_restarts > 0) {
    absl::StrAppend(&text, ", at least ", plan.workers_min, " workers, ", plan.max_restarts, " restarts, last call ",
                    absl::FormatDuration(plan.last_call), ", a checkpoint every ", plan.checkpoint_every, " steps",
                    plan.starter ? ", agents start again" : "");
  }
  if (plan.ordered) absl::StrAppend(&text, ", nodes in a planned order");
  for (const SimulatedFault& fault : plan.faults) {
    absl::StrAppend(&text, "; ", FaultName(fault.kind), " ", fault.target, " (", fault.number, ") at ",
                    absl::FormatDuration(fault.at));
  }
  return text;
}

SimulationResult Simulate(const SimulationPlan& plan) { return Simulation(plan).Run(); }

}  // namespace muster
