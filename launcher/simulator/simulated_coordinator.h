// A coordinator with a disk that takes its time, and that may be killed and started again.
#ifndef MUSTER_LAUNCHER_SIMULATOR_SIMULATED_COORDINATOR_H_
#define MUSTER_LAUNCHER_SIMULATOR_SIMULATED_COORDINATOR_H_

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "launcher/simulator/world.h"

namespace muster {

class SimulatedCoordinator {
 public:
  using Deliver = std::function<void(uint32_t node, const v1::CoordinatorMessage&)>;

  SimulatedCoordinator(World* world, Deliver deliver) : world_(world), deliver_(std::move(deliver)), checker_(world) {}

  void Start();
  // What of its last writes reached the disk, chance decides.
  void Kill();

  bool alive() const { return membership_.has_value(); }
  uint64_t starts() const { return starts_; }
  const std::optional<Judgement>& judgement() const { return judgement_; }
  const CoordinatorChecker& checker() const { return checker_; }
  uint32_t restarts() const { return restarts_; }

  void Step(const membership::Event& event);

 private:
  void Do(const membership::Action& action);
  void Append(const membership::AppendRecord& append);

  World* const world_;
  const Deliver deliver_;
  CoordinatorChecker checker_;
  std::optional<Membership> membership_;
  uint64_t starts_ = 0;
  std::vector<v1::RecordEntry> disk_;
  std::deque<membership::AppendRecord> pending_;  // in order, not yet durable
  absl::Duration disk_free_at_;
  std::map<membership::Timer, VirtualTime::Id> timers_;
  std::optional<Judgement> judgement_;
  uint32_t restarts_ = 0;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_SIMULATOR_SIMULATED_COORDINATOR_H_
