// Sums along the canonical tree, as far as one rank owns it.
#ifndef MUSTER_RUNTIME_TRAINING_FOLD_H_
#define MUSTER_RUNTIME_TRAINING_FOLD_H_

#include <cstdint>
#include <span>
#include <vector>

#include "muster/shards.h"

namespace muster {

// Where one shard's numbers go while a rank works through its shards in order. The shards of a partial count up like a binary
// number: a shard whose local index ends in c ones completes c pending subtrees, so ceil(log2) buffers hold everything.
struct FoldStep {
  int32_t partial = 0;     // index among the rank's partials
  int32_t carries = 0;     // pending levels 0..carries-1 are added, the lowest first, each as the left operand
  int32_t level = 0;       // where the sum stays pending; meaningless if `completes`
  bool completes = false;  // the sum is the partial itself
};

// One for each shard of `partials`, in order.
std::vector<FoldStep> PlanFold(std::span<const Partial> partials);

// Pending buffers that PlanFold's steps use: the largest level + 1.
int32_t FoldLevels(std::span<const FoldStep> steps);

// output[i] = levels[n-1][i] + (... + (levels[0][i] + leaf[i])). `output` is none of the inputs.
void FoldInto(float* output, std::span<const float* const> levels, const float* leaf, int64_t count);

// The canonical sum of `leaves`, at least one: Tree(first 2^k) + Tree(the rest).
double TreeSum(std::span<const double> leaves);

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRAINING_FOLD_H_
