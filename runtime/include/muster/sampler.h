// Which sample stands at which place in the order of training.
#ifndef MUSTER_SAMPLER_H_
#define MUSTER_SAMPLER_H_

#include <cstdint>

namespace muster {

// The endless order in which a data set is trained on: every epoch is a permutation of all samples of its own, so each sample
// comes exactly once an epoch, with no padding at its end and none dropped. A place in it is one number, the global cursor; a
// step of B samples owns places [cursor, cursor + B), whatever the world size, and may reach over the end of an epoch.
//
// Immutable and a few words long; any thread.
class Sampler {
 public:
  // samples in [1, 2^62].
  Sampler(int64_t samples, uint64_t seed) : samples_(samples), seed_(seed) {}

  // The sample's number, in [0, samples), at place `position` >= 0.
  int64_t SampleAt(int64_t position) const;

  int64_t EpochAt(int64_t position) const { return position / samples_; }
  int64_t samples() const { return samples_; }

 private:
  int64_t samples_;
  uint64_t seed_;
};

}  // namespace muster

#endif  // MUSTER_SAMPLER_H_
