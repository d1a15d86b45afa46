// The sum of all ranks' losses.
#ifndef MUSTER_RUNTIME_TRAINING_LOSSES_H_
#define MUSTER_RUNTIME_TRAINING_LOSSES_H_

#include <span>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/communicator.h"
#include "muster/trainer.h"

namespace muster {

// Collective. `leaves` are those of this rank's shards; they are summed along the canonical tree over all `shards`. Weights are exact
// up to 2^53.
absl::StatusOr<Loss> SumLosses(Communicator& communicator, int32_t shards, std::span<const Loss> leaves, absl::Time deadline);

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRAINING_LOSSES_H_
