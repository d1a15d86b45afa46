// The data plane of a simulation: who has contributed to which operation, and what waiters see. Checks I2 and I6.
#ifndef MUSTER_LAUNCHER_SIMULATOR_SIMULATED_COLLECTIVES_H_
#define MUSTER_LAUNCHER_SIMULATOR_SIMULATED_COLLECTIVES_H_

#include <functional>
#include <map>
#include <optional>

#include "launcher/simulator/world.h"
#include "proto/muster/v1/control_memory.h"

namespace muster {

// What an operation returns to a rank.
struct OperationResult {
  bool success = false;
  uint32_t blamed_rank = v1::kNoRank;
  v1::AbortReason reason = v1::AbortReason::kNone;
};

// One generation. An operation succeeds on a rank when every member has contributed to it; it fails when a member that has not
// is dead, or has left.
class SimulatedCollectives {
 public:
  SimulatedCollectives(World* world, uint32_t world_size) : world_(world), world_size_(world_size) {}

  // `rank` contributes to operation `op` (1, 2, ...) and waits for `done`, which runs later.
  void Call(uint32_t rank, uint64_t op, std::function<void(const OperationResult&)> done);
  // The rank's process has ended, or its session has. Its waiting call never returns.
  void Gone(uint32_t rank, v1::AbortReason how);

 private:
  struct Waiter {
    uint64_t op = 0;
    std::function<void(const OperationResult&)> done;
  };
  bool Complete(uint64_t op) const;
  std::optional<OperationResult> ResultOf(uint64_t op) const;
  void Look();
  void Return(uint32_t rank, const OperationResult& result);

  World* const world_;
  const uint32_t world_size_;
  std::map<uint32_t, uint64_t> contributed_;  // by rank, the last operation
  std::map<uint32_t, v1::AbortReason> gone_;
  std::map<uint32_t, Waiter> waiters_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_SIMULATOR_SIMULATED_COLLECTIVES_H_
