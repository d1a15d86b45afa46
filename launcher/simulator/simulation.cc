#include "launcher/simulator/simulation.h"

#include <algorithm>
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

// Nodes, a coordinator, and the streams between them: in order within one, any order across.
class Simulation {
 public:
  explicit Simulation(const SimulationPlan& plan);
  SimulationResult Run();

 private:
  struct Stream {
    uint64_t connection = 0;  // what was sent on an earlier one is lost
    bool up = false;
    absl::Duration to_coordinator;
    absl::Duration to_node;
  };

  void Connect(uint32_t node);
  void ToCoordinator(uint32_t node, membership::Event event);
  void ToNode(uint32_t node, const v1::CoordinatorMessage& message);
  void Inject(const SimulatedFault& fault);
  void KillCoordinator(bool for_good);
  SimulatedNode* NodeOfSlot(uint32_t slot);
  void CheckEnd(const SimulationResult& result);
  void CheckVerdict(const v1::Verdict& verdict);
  bool IsTrue(const v1::Verdict& verdict) const;
  absl::Duration TimeAllowed() const;
  bool Has(FaultKind kind) const;

  World world_;
  SimulatedCoordinator coordinator_;
  std::vector<std::unique_ptr<SimulatedNode>> nodes_;
  std::vector<Stream> streams_;
  std::map<uint64_t, std::unique_ptr<SimulatedCollectives>> collectives_;
  bool coordinator_lost_ = false;
  uint64_t last_generation_ = 0;
};

Simulation::Simulation(const SimulationPlan& plan)
    : world_(plan),
      coordinator_(&world_, [this](uint32_t node, const v1::CoordinatorMessage& message) { ToNode(node, message); }),
      streams_(plan.nodes) {
  for (uint32_t node = 0; node < plan.nodes; ++node) {
    SimulatedNode::Wires wires;
    wires.send = [this, node](const v1::AgentMessage& message) { ToCoordinator(node, membership::Received{node, message}); };
    wires.agent_died = [this, node] { ToCoordinator(node, membership::AgentLost{node, "connection closed"}); };
    wires.collectives = [this](uint64_t generation, uint32_t world_size) -> SimulatedCollectives& {
      auto& collectives = collectives_[generation];
      if (collectives == nullptr) collectives = std::make_unique<SimulatedCollectives>(&world_, world_size);
      return *collectives;
    };
    nodes_.push_back(std::make_unique<SimulatedNode>(&world_, node, std::move(wires)));
  }
}

// --- Streams ---

void Simulation::Connect(uint32_t node) {
  if (coordinator_lost_ || streams_[node].up || !nodes_[node]->agent_alive()) return;
  if (!coordinator_.alive()) {
    world_.time.After(world_.chance.Between(absl::Milliseconds(50), absl::Milliseconds(300)), [this, node] { Connect(node); });
    return;
  }
  Stream& stream = streams_[node];
  ++stream.connection;
  stream.up = true;
  nodes_[node]->ChannelUp();
}

void Simulation::ToCoordinator(uint32_t node, membership::Event event) {
  Stream& stream = streams_[node];
  if (!stream.up) return;
  const absl::Duration delay = world_.chance.Between(absl::Microseconds(20), absl::Milliseconds(20));
  stream.to_coordinator = std::max(stream.to_coordinator, world_.time.now() + delay);
  world_.time.After(stream.to_coordinator - world_.time.now(),
                    [this, node, connection = stream.connection, event = std::move(event)] {
                      if (streams_[node].connection == connection && streams_[node].up) coordinator_.Step(event);
                    });
}

void Simulation::ToNode(uint32_t node, const v1::CoordinatorMessage& message) {
  last_generation_ = std::max(last_generation_, message.generation());
  Stream& stream = streams_[node];
  if (!stream.up) return;
  const absl::Duration delay = world_.chance.Between(absl::Microseconds(20), absl::Milliseconds(20));
  stream.to_node = std::max(stream.to_node, world_.time.now() + delay);
  world_.time.After(stream.to_node - world_.time.now(), [this, node, connection = stream.connection, message] {
    if (streams_[node].connection == connection && streams_[node].up) nodes_[node]->Receive(message);
  });
}

void Simulation::KillCoordinator(bool for_good) {
  if (!coordinator_.alive() || coordinator_.judgement()) return;
  world_.last_fault_at = world_.time.now();
  coordinator_.Kill();
  coordinator_lost_ = for_good;
  for (uint32_t node = 0; node < nodes_.size(); ++node) {
    if (!streams_[node].up) continue;
    streams_[node].up = false;
    world_.time.After(world_.chance.Between(absl::Microseconds(50), absl::Milliseconds(50)), [this, node] {
      nodes_[node]->ChannelLost();
      Connect(node);
    });
  }
  if (!for_good) {
    world_.time.After(world_.chance.Between(absl::Milliseconds(5), absl::Seconds(2)), [this] { coordinator_.Start(); });
  }
}

// --- Faults ---

SimulatedNode* Simulation::NodeOfSlot(uint32_t slot) {
  return nodes_[std::min<size_t>(slot / world_.plan.slots, nodes_.size() - 1)].get();
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
  const bool member_may_not_return = Has(FaultKind::kKillCoordinator);
  const bool too_few_nodes = Has(FaultKind::kKillAgent) || Has(FaultKind::kKillGuard);
  if (member_may_not_return || too_few_nodes) return absl::Seconds(80);  // the ends of FORMING and RESUMING
  return world_.stop_requested ? absl::Seconds(8) : absl::Seconds(3);
}

bool Simulation::IsTrue(const v1::Verdict& verdict) const {
  if (world_.stop_requested && verdict.exit_code() == 130) return true;
  // What a coordinator knew of a generation that was never formed dies with it: that it was asked to stop, or that a worker failed.
  // The next one finds workers or agents that have stopped, and says so.
  const bool found_stopped = verdict.failure_class() == "stopped" || verdict.failure_class() == "agent lost";
  const bool had_reason = world_.stop_requested || !world_.truths.empty();
  if (had_reason && coordinator_.starts() > 1 && found_stopped) return true;
  return std::any_of(world_.truths.begin(), world_.truths.end(), [&verdict](const Truth& truth) {
    if (verdict.rank() >= 0) return truth.rank == verdict.rank();
    const bool names_node = verdict.host().empty() ? verdict.exit_code() == 69 || verdict.failure_class() == "agent lost"
                                                   : verdict.host() == truth.host;
    return truth.rank < 0 && names_node;
  });
}

void Simulation::CheckVerdict(const v1::Verdict& verdict) {
  if (verdict.exit_code() != 0) {
    if (verdict.sentence().empty()) world_.Violate("verdict: a failure without a sentence");
    if (!IsTrue(verdict)) world_.Violate(absl::StrCat("verdict: names what did not break: ", verdict.sentence()));
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
  result.violations = std::move(world_.violations);
  result.trace = std::move(world_.trace);
  return result;
}

const char* FaultName(FaultKind kind) {
  static constexpr const char* kNames[] = {"kill worker", "exit worker", "exit early",       "leave early",      "fail spawn",
                                           "kill guard",  "kill agent",  "kill coordinator", "lose coordinator", "stop"};
  return kNames[static_cast<size_t>(kind)];
}

SimulatedFault DrawFault(const SimulationPlan& plan, Chance& chance) {
  SimulatedFault fault;
  fault.kind = static_cast<FaultKind>(chance.Below(10));
  const bool of_node = fault.kind == FaultKind::kKillGuard || fault.kind == FaultKind::kKillAgent;
  fault.target = static_cast<uint32_t>(chance.Below(of_node ? plan.nodes : plan.workers));
  fault.at = chance.Between(absl::ZeroDuration(), absl::Milliseconds(80 + 8 * plan.steps));
  static constexpr int kSignals[] = {9, 11, 6, 15};
  static constexpr int kErrors[] = {2, 13, 12};  // ENOENT, EACCES, ENOMEM
  if (fault.kind == FaultKind::kKillWorker) fault.number = kSignals[chance.Below(4)];
  if (fault.kind == FaultKind::kExitWorker) fault.number = 1 + static_cast<int>(chance.Below(100));
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
  const uint64_t faults = chance.Below(4);
  for (uint64_t i = 0; i < faults; ++i) plan.faults.push_back(DrawFault(plan, chance));
  return plan;
}

std::string Describe(const SimulationPlan& plan) {
  std::string text = absl::StrCat("seed ", plan.seed, ": ", plan.nodes, " nodes x ", plan.slots, " slots, ", plan.workers,
                                  plan.linked ? " linked" : " plain", " workers, ", plan.steps, " steps");
  for (const SimulatedFault& fault : plan.faults) {
    absl::StrAppend(&text, "; ", FaultName(fault.kind), " ", fault.target, " (", fault.number, ") at ",
                    absl::FormatDuration(fault.at));
  }
  return text;
}

SimulationResult Simulate(const SimulationPlan& plan) { return Simulation(plan).Run(); }

}  // namespace muster
