// A rank's gradients: made shard by shard, summed along the canonical tree, reduced over all ranks while they are still being
// made.
#ifndef MUSTER_RUNTIME_TRAINING_GRADIENTS_H_
#define MUSTER_RUNTIME_TRAINING_GRADIENTS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/training/buckets.h"
#include "runtime/training/fold.h"
#include "runtime/training/place.h"

namespace muster {

struct GradientOptions {
  int32_t shards = 0;
  int64_t first_bucket_bytes = 0;
  int64_t bucket_bytes = 0;
  absl::Duration timeout = absl::InfiniteDuration();  // of each all-reduce
};

// One step is: for each owned shard in order, BeginShard, gradients written through Gradient(), Ready() once for each
// parameter; then Wait, and the sums through Sum(). During the last shard a bucket whose parameters are all ready starts its
// all-reduce; buckets start in the same order on every rank. Abandon() ends a step at any point. Threads: one.
class Gradients {
 public:
  // Collective. `counts` are elements by parameter; the first buckets hold the last parameters.
  static absl::StatusOr<std::unique_ptr<Gradients>> Create(Place& place, int world_size, int rank, std::vector<int64_t> counts,
                                                           const GradientOptions& options);
  ~Gradients();

  // Collective. Cuts the buckets anew, filled in `order` (equal on all ranks). Not during a step. Sums keep their bits.
  absl::Status Recut(std::span<const int32_t> order);
  const BucketPlan& plan() const { return plan_; }
  // False after a Recut that failed: until one succeeds nothing else may be called.
  bool has_buckets() const { return buckets_.size() == plan_.buckets.size(); }

  // Owned shards are counted from 0. Zeroes the gradient that Gradient() then points to.
  absl::Status BeginShard(int32_t shard);
  int32_t owned_shards() const { return static_cast<int32_t>(steps_.size()); }

  // Where at the place this shard's gradient of `parameter` is summed up; on a 64-byte boundary. Valid until Ready(parameter).
  float* Gradient(int32_t parameter) const;

  // This shard's gradient of `parameter` is complete.
  absl::Status Ready(int32_t parameter);
  bool IsReady(int32_t parameter) const { return ready_[parameter]; }

  // Blocks until every bucket is reduced.
  absl::Status Wait();

  // The gradient's sum over all shards of all ranks, after Wait and until the next BeginShard.
  const float* Sum(int32_t parameter) const { return Row(parameter, 0); }

  // For the times of its all-reduce, after Wait.
  const Bucket& bucket(int32_t number) const { return *buckets_[number]; }

  // Waits for operations in flight, whatever their result, so that the next step may begin.
  void Abandon();

 private:
  Gradients(Place& place, int world_size, int rank, std::vector<int64_t> counts, const GradientOptions& options);
  float* Row(int32_t parameter, int32_t partial) const;
  float* Target(int32_t parameter) const;  // where the fold of the current shard ends
  absl::Status StartFullBuckets();
  absl::Status MakeLevels(int64_t floats);

  Place& place_;
  const std::vector<int64_t> counts_;
  const GradientOptions options_;
  const std::vector<FoldStep> steps_;
  const int32_t rows_;                                // partials a bucket has room for
  std::vector<int64_t> offsets_;                      // in floats, by parameter, in leaf_ and levels_
  std::vector<std::unique_ptr<PlaceMemory>> levels_;  // pending subtrees
  std::unique_ptr<PlaceMemory> leaf_;                 // a shard that completes pending subtrees

  BucketPlan plan_;
  std::vector<std::unique_ptr<Bucket>> buckets_;  // each holds rows_ partials
  std::vector<int32_t> missing_;                  // by bucket: parameters not ready
  int32_t next_bucket_ = 0;                       // the first not started
  int32_t shard_ = 0;
  std::vector<bool> ready_;  // by parameter, in this shard
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRAINING_GRADIENTS_H_
