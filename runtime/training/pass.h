// One call of the user's function.
#ifndef MUSTER_RUNTIME_TRAINING_PASS_H_
#define MUSTER_RUNTIME_TRAINING_PASS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/communicator.h"
#include "muster/trainer.h"
#include "runtime/training/gradients.h"
#include "runtime/training/state.h"
#include "runtime/training/trace.h"

namespace muster {

// What a pass uses of its trainer.
struct PassContext {
  Communicator& communicator;
  Gradients& gradients;
  const TrainingState& state;
  std::span<const int64_t> counts;  // elements by parameter
  void* stream = nullptr;
  std::vector<absl::Time>& ready_times;  // by parameter; written to
  Trace* trace = nullptr;                // null: none is wanted
};

struct PassTask {
  int32_t shard = 0;
  bool last_of_shard = false;  // its gradients are complete, not only added to
  std::vector<int64_t> samples;
  uint64_t random_seed = 0;
};

// Runs `function`, marks the gradients that it did not mark, and traces it. An error of the function's own aborts the communicator.
absl::StatusOr<Loss> RunPass(const PassContext& context, PassTask task, const Trainer::PassFunction& function);

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRAINING_PASS_H_
