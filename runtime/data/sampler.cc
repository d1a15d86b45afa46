#include "muster/sampler.h"

#include "runtime/data/mix.h"
#include "runtime/data/permutation.h"

namespace muster {

int64_t Sampler::SampleAt(int64_t position) const {
  const uint64_t epoch = static_cast<uint64_t>(EpochAt(position));
  const KeyedPermutation order(static_cast<uint64_t>(samples_), Mix(seed_, epoch));
  return static_cast<int64_t>(order.At(static_cast<uint64_t>(position % samples_)));
}

}  // namespace muster
