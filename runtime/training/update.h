// One optimizer update of one parameter, from one state into another.
#ifndef MUSTER_RUNTIME_TRAINING_UPDATE_H_
#define MUSTER_RUNTIME_TRAINING_UPDATE_H_

#include <cstdint>

#include "muster/optimizer.h"

namespace muster {

// Moments that the optimizer keeps for each parameter: 0, 1 or 2.
int MomentsOf(const OptimizerOptions& options);

// Where a parameter's numbers are read from; moments beyond MomentsOf() are null.
struct UpdateInput {
  const float* gradient = nullptr;  // sum over the global batch
  const float* value = nullptr;
  const float* moment[2] = {nullptr, nullptr};
};
struct UpdateOutput {
  float* value = nullptr;
  float* moment[2] = {nullptr, nullptr};
};

// Writes the `count` elements of `output` from those of `input`; the two do not overlap. `step` counts updates from 0, and the
// gradient is multiplied by `gradient_scale` first.
void Update(const OptimizerOptions& options, int64_t step, float gradient_scale, int64_t count, const UpdateInput& input,
            const UpdateOutput& output);

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRAINING_UPDATE_H_
