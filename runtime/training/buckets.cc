#include "runtime/training/buckets.h"

#include "muster/tensor.h"

namespace muster {

BucketPlan CutBuckets(std::span<const int64_t> counts, std::span<const int32_t> order, int64_t first_bytes, int64_t bytes) {
  BucketPlan plan;
  plan.places.resize(counts.size());
  for (const int32_t parameter : order) {
    const int64_t floats = AlignUp(counts[parameter]);
    const int64_t limit_bytes = plan.buckets.size() <= 1 ? first_bytes : bytes;
    if (plan.buckets.empty() || (plan.buckets.back().floats + floats) * SizeOf(DataType::kFloat32) > limit_bytes) {
      plan.buckets.emplace_back();
    }
    BucketPlan::Bucket& bucket = plan.buckets.back();
    plan.places[parameter] = {static_cast<int32_t>(plan.buckets.size() - 1), bucket.floats};
    bucket.parameters.push_back(parameter);
    bucket.floats += floats;
  }
  return plan;
}

}  // namespace muster
