// A whole job on virtual time: the coordinator's, the agents' and the sessions' own tables, in a world of simulated streams,
// disks, guards and processes that break as a seed says.
#ifndef MUSTER_LAUNCHER_SIMULATOR_SIMULATION_H_
#define MUSTER_LAUNCHER_SIMULATOR_SIMULATION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "launcher/coordinator/verdict.h"

namespace muster {

// What is to go wrong, and when (from the start of the job).
struct SimulatedFault {
  enum class Kind {
    kKillWorker,  // by signal `number`
    kExitWorker,  // with code `number`, which is not 0
    kExitEarly,   // with code 0, in the middle of its work, session open
    kLeaveEarly,  // the same after closing its session
    kFailSpawn,   // with errno `number`
    kKillGuard,
    kKillAgent,
    kKillNode,         // all of it at once; nobody tells of it
    kCutNode,          // its stream carries nothing for `number` ms; its workers reach the others all the same
    kKillCoordinator,  // it starts again from its record
    kLoseCoordinator,  // it does not
    kStop,             // from outside; again: now
  };
  Kind kind = Kind::kKillWorker;
  uint32_t target = 0;  // slot, or node
  int number = 0;
  absl::Duration at;
};

struct SimulationPlan {
  uint64_t seed = 0;
  uint32_t nodes = 1;
  uint32_t slots = 1;  // of each node
  uint32_t workers = 1;
  uint32_t spares = 0;  // of the nodes, the last ones
  uint32_t steps = 10;  // collective calls of each worker
  bool linked = true;   // with libmuster; else each worker just runs for a while
  double stubborn = 0;  // share of workers that ignore SIGTERM
  double strays = 0;    // share of workers that leave a process behind
  uint32_t workers_min = 0;
  uint32_t max_restarts = 0;
  absl::Duration last_call = absl::Seconds(5);
  bool starter = false;           // agents that ended are started again
  uint32_t checkpoint_every = 0;  // steps; 0: never
  bool ordered = false;           // ranks follow an order of nodes that is not that of their numbers
  std::vector<SimulatedFault> faults;

  // Planted bugs, by which tests prove that the checkers see them.
  bool planted_announce_early = false;  // the coordinator announces before its record is durable
  bool planted_stopped_early = false;   // agents say Stopped while processes run
  bool planted_false_success = false;   // an aborted collective call returns success
  bool planted_cleared_early = false;   // agents say Cleared while processes run
  bool planted_reuse_number = false;    // the coordinator takes a generation's number again
  bool planted_forget_order = false;    // the order of nodes is another one after a restart
  bool planted_ignore_spawn = false;    // agents take late news of an earlier process for the present one's
};

// A plan drawn from `seed`: any size, any faults, any time.
SimulationPlan DrawPlan(uint64_t seed);
std::string Describe(const SimulationPlan& plan);

struct SimulationResult {
  std::vector<std::string> violations;  // "I1: ...": invariants of docs/design.md that did not hold
  std::optional<Judgement> judgement;   // none: the coordinator was lost for good
  absl::Duration ended_at;
  uint64_t events = 0;
  uint64_t incarnations = 0;
  uint32_t restarts = 0;
  std::string trace;  // what happened, one line an event; equal for equal plans
};

SimulationResult Simulate(const SimulationPlan& plan);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_SIMULATOR_SIMULATION_H_
