// A trainer at a place that its maker chose.
#ifndef MUSTER_RUNTIME_TRAINING_TRAINER_AT_H_
#define MUSTER_RUNTIME_TRAINING_TRAINER_AT_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "muster/communicator.h"
#include "muster/trainer.h"
#include "runtime/training/place.h"

namespace muster {

// As Trainer::Create; options.device has no say. `place` is of `communicator`.
absl::StatusOr<std::unique_ptr<Trainer>> CreateTrainerAt(std::unique_ptr<Place> place, Communicator& communicator,
                                                         std::vector<ParameterSpec> parameters, const TrainerOptions& options);

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRAINING_TRAINER_AT_H_
