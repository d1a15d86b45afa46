// What the parts of a simulation share: time, chance, the checkers, and the truth about what broke.
#ifndef MUSTER_LAUNCHER_SIMULATOR_WORLD_H_
#define MUSTER_LAUNCHER_SIMULATOR_WORLD_H_

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "launcher/coordinator/membership.h"
#include "launcher/simulator/simulation.h"
#include "launcher/simulator/virtual_time.h"
#include "muster/v1/agent.pb.h"

namespace muster {

// Something that really broke, as opposed to what broke because of it.
struct Truth {
  int32_t rank = -1;  // -1: the node
  std::string host;
  uint64_t generation = 0;
  bool must_show = true;  // the job cannot go well with it, if this generation is its last
  absl::Duration at;
};

struct World {
  explicit World(const SimulationPlan& the_plan) : plan(the_plan), chance(the_plan.seed) {}

  void Trace(const std::string& line) { absl::StrAppend(&trace, absl::FormatDuration(time.now()), " ", line, "\n"); }
  void Violate(const std::string& what) {
    violations.push_back(what);
    Trace(absl::StrCat("VIOLATION ", what));
  }

  const SimulationPlan plan;
  VirtualTime time;
  Chance chance;
  std::vector<Truth> truths;
  std::vector<std::string> violations;
  std::string trace;
  int64_t checkpoint_step = 0;             // newest on disk; 0: none
  std::map<uint64_t, int64_t> first_step;  // by generation: where its workers took up the work
  bool stop_requested = false;
  absl::Duration last_fault_at;
};

// Where a node stands in a planned order: the same in every generation, so that survivors keep their places.
uint64_t PlannedPlace(uint64_t seed, uint32_t node);

// I1 and I4, that ranks follow the planned order of nodes, and that restarts keep to their bound and have a true cause, from what coordinators send and remember over all their
// incarnations.
class CoordinatorChecker {
 public:
  explicit CoordinatorChecker(World* world) : world_(world) {}

  void OnSend(uint32_t node, const v1::CoordinatorMessage& message);
  void OnDurable(const v1::RecordEntry& entry);
  void OnStep(int64_t committed_step);
  void OnRecovered(int64_t committed_step);

  // True if the verdict on this generation names something that really broke.
  bool IsTrue(const v1::Verdict& verdict, uint64_t generation, uint64_t incarnations) const;

 private:
  void OnEnded(const v1::GenerationEnded& ended, uint64_t incarnations);
  void CheckOrder(const v1::GenerationFormed& formed);

  World* const world_;
  std::map<uint64_t, uint64_t> incarnation_of_;  // by generation: who announced it
  std::map<uint64_t, std::string> members_of_;   // by generation: the announced table's digest
  std::set<uint64_t> formed_;                    // generations whose forming is durable
  std::map<uint64_t, absl::Duration> taken_;     // numbers that are durable, and since when
  std::set<uint64_t> ended_;                     // generations whose end is durable
  uint32_t restarts_ = 0;
  uint32_t restarts_since_checkpoint_ = 0;
  int64_t recorded_step_ = -1;
  int64_t step_ = -1;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_SIMULATOR_WORLD_H_
