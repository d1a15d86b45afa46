// One optimizer update of one parameter, from one state into another.
#ifndef MUSTER_RUNTIME_TRAINING_UPDATE_H_
#define MUSTER_RUNTIME_TRAINING_UPDATE_H_

#include <cstdint>

#include "muster/optimizer.h"
#include "runtime/kernels/update_body.h"

namespace muster {

using kernels::UpdateInput;
using kernels::UpdateNumbers;
using kernels::UpdateOutput;

// Moments that the optimizer keeps for each parameter: 0, 1 or 2.
int MomentsOf(const OptimizerOptions& options);

// What an update needs that is the same for all elements. `step` counts updates from 0, and the gradient is multiplied by
// `gradient_scale` first.
UpdateNumbers NumbersOf(const OptimizerOptions& options, int64_t step, float gradient_scale);

// Writes the `count` elements of `output` from those of `input`; the two do not overlap.
void Update(const UpdateNumbers& numbers, int64_t count, const UpdateInput& input, const UpdateOutput& output);

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRAINING_UPDATE_H_
