// Do all ranks mean to train the same way?
#ifndef MUSTER_RUNTIME_TRAINING_AGREEMENT_H_
#define MUSTER_RUNTIME_TRAINING_AGREEMENT_H_

#include <span>

#include "absl/status/status.h"
#include "muster/communicator.h"
#include "muster/trainer.h"

namespace muster {

// What one rank alone can see: InvalidArgument names the option and its range, and --shards if there are more ranks than
// shards.
absl::Status CheckOptions(std::span<const ParameterSpec> parameters, const TrainerOptions& options, int world_size);

// Collective. InvalidArgument names the first option in which a rank differs from rank 0, the rank and both values.
absl::Status CheckAgreement(Communicator& communicator, std::span<const ParameterSpec> parameters,
                            const TrainerOptions& options);

// Collective. OK where `own` is on all ranks; else this rank's own error, or, where it has none, that of the lowest rank that has one, which
// is named. The communicator stays usable. Errors: those of the communicator.
absl::Status AgreeOnOutcome(Communicator& communicator, const absl::Status& own, absl::Time deadline);

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRAINING_AGREEMENT_H_
