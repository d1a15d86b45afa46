// Which gradients are reduced together, and where each stands in its bucket.
#ifndef MUSTER_RUNTIME_TRAINING_BUCKETS_H_
#define MUSTER_RUNTIME_TRAINING_BUCKETS_H_

#include <cstdint>
#include <span>
#include <vector>

namespace muster {

// Floats in 64 bytes: every tensor starts on such a boundary, so that code which looks at alignment does the same everywhere.
inline constexpr int64_t kTensorAlignment = 16;
constexpr int64_t AlignUp(int64_t floats) { return (floats + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment; }

struct BucketPlan {
  struct Bucket {
    std::vector<int32_t> parameters;  // in the order of filling
    int64_t floats = 0;               // a multiple of kTensorAlignment
  };
  struct Place {
    int32_t bucket = 0;
    int64_t offset = 0;  // in floats, a multiple of kTensorAlignment
  };
  std::vector<Bucket> buckets;
  std::vector<Place> places;  // by parameter
};

// Fills buckets with parameters in `order`, a permutation of all: the first up to `first_bytes`, so that reducing starts early,
// the others up to `bytes`. A parameter larger than that has a bucket to itself. `counts` are elements by parameter.
BucketPlan CutBuckets(std::span<const int64_t> counts, std::span<const int32_t> order, int64_t first_bytes, int64_t bytes);

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRAINING_BUCKETS_H_
