#include "runtime/training/fold.h"

#include <algorithm>
#include <bit>

namespace muster {

std::vector<FoldStep> PlanFold(std::span<const Partial> partials) {
  std::vector<FoldStep> steps;
  for (size_t partial = 0; partial < partials.size(); ++partial) {
    for (uint32_t local = 0; local < static_cast<uint32_t>(partials[partial].count); ++local) {
      FoldStep step;
      step.partial = static_cast<int32_t>(partial);
      step.carries = std::countr_one(local);
      step.level = step.carries;
      step.completes = static_cast<int32_t>(local) + 1 == partials[partial].count;
      steps.push_back(step);
    }
  }
  return steps;
}

int32_t FoldLevels(std::span<const FoldStep> steps) {
  int32_t levels = 0;
  for (const FoldStep& step : steps) {
    if (!step.completes) levels = std::max(levels, step.level + 1);
  }
  return levels;
}

void FoldInto(float* output, std::span<const float* const> levels, const float* leaf, int64_t count) {
  float* __restrict out = output;
  const float* __restrict right = leaf;
  const float* __restrict lowest = levels[0];
  for (int64_t i = 0; i < count; ++i) out[i] = lowest[i] + right[i];
  for (const float* level : levels.subspan(1)) {
    const float* __restrict left = level;
    for (int64_t i = 0; i < count; ++i) out[i] = left[i] + out[i];
  }
}

double TreeSum(std::span<const double> leaves) {
  if (leaves.size() == 1) return leaves[0];
  const size_t left = std::bit_floor(leaves.size() - 1);
  return TreeSum(leaves.first(left)) + TreeSum(leaves.subspan(left));
}

}  // namespace muster
