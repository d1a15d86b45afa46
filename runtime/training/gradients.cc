#include "runtime/training/gradients.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/time/clock.h"
#include "muster/shards.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

std::vector<int32_t> LastFirst(size_t parameters) {
  std::vector<int32_t> order(parameters);
  std::iota(order.rbegin(), order.rend(), 0);
  return order;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Gradients>> Gradients::Create(Place& place, int world_size, int rank,
                                                             std::vector<int64_t> counts, const GradientOptions& options) {
  std::unique_ptr<Gradients> gradients(new Gradients(place, world_size, rank, std::move(counts), options));
  int64_t floats = 0;
  for (const int64_t count : gradients->counts_) {
    gradients->offsets_.push_back(floats);
    floats += AlignUp(count);
  }
  MUSTER_RETURN_IF_ERROR(place.Agree(gradients->MakeLevels(floats), absl::Now() + options.timeout));
  MUSTER_RETURN_IF_ERROR(gradients->Recut(LastFirst(gradients->counts_.size())));
  return gradients;
}

Gradients::Gradients(Place& place, int world_size, int rank, std::vector<int64_t> counts, const GradientOptions& options)
    : place_(place),
      counts_(std::move(counts)),
      options_(options),
      steps_(PlanFold(OwnedPartials(options.shards, world_size, rank))),
      rows_(PartialsMax(options.shards, world_size)),
      ready_(counts_.size(), false) {}

Gradients::~Gradients() { Abandon(); }

absl::Status Gradients::MakeLevels(int64_t floats) {
  for (int32_t level = 0; level < FoldLevels(steps_); ++level) {
    MUSTER_ASSIGN_OR_RETURN(auto memory, place_.MakeScratch(floats));
    levels_.push_back(std::move(memory));
  }
  const bool carries = std::any_of(steps_.begin(), steps_.end(), [](const FoldStep& step) { return step.carries > 0; });
  if (carries) {
    MUSTER_ASSIGN_OR_RETURN(leaf_, place_.MakeScratch(floats));
  }
  return absl::OkStatus();
}

absl::Status Gradients::Recut(std::span<const int32_t> order) {
  buckets_.clear();
  plan_ = CutBuckets(counts_, order, options_.first_bucket_bytes, options_.bucket_bytes);
  missing_.resize(plan_.buckets.size());
  for (const BucketPlan::Bucket& bucket : plan_.buckets) {
    MUSTER_ASSIGN_OR_RETURN(auto made, place_.MakeBucket(bucket.floats, rows_, options_.shards));
    buckets_.push_back(std::move(made));
  }
  return absl::OkStatus();
}

float* Gradients::Row(int32_t parameter, int32_t partial) const {
  const BucketPlan::Place place = plan_.places[parameter];
  return buckets_[place.bucket]->data() + partial * plan_.buckets[place.bucket].floats + place.offset;
}

float* Gradients::Target(int32_t parameter) const {
  const FoldStep& step = steps_[shard_];
  return step.completes ? Row(parameter, step.partial) : levels_[step.level]->data() + offsets_[parameter];
}

float* Gradients::Gradient(int32_t parameter) const {
  return steps_[shard_].carries == 0 ? Target(parameter) : leaf_->data() + offsets_[parameter];
}

absl::Status Gradients::BeginShard(int32_t shard) {
  shard_ = shard;
  if (shard == 0) {
    for (size_t bucket = 0; bucket < plan_.buckets.size(); ++bucket) {
      missing_[bucket] = static_cast<int32_t>(plan_.buckets[bucket].parameters.size());
    }
    next_bucket_ = 0;
  }
  ready_.assign(counts_.size(), false);
  for (size_t i = 0; i < counts_.size(); ++i) {
    MUSTER_RETURN_IF_ERROR(place_.Zero(Gradient(static_cast<int32_t>(i)), counts_[i]));
  }
  return absl::OkStatus();
}

absl::Status Gradients::Ready(int32_t parameter) {
  if (ready_[parameter]) return absl::OkStatus();
  const FoldStep& step = steps_[shard_];
  if (step.carries > 0) {
    const float* pending[32];
    for (int32_t level = 0; level < step.carries; ++level) pending[level] = levels_[level]->data() + offsets_[parameter];
    MUSTER_RETURN_IF_ERROR(
        place_.Fold(Target(parameter), {pending, static_cast<size_t>(step.carries)}, Gradient(parameter), counts_[parameter]));
  }
  ready_[parameter] = true;
  if (shard_ + 1 < owned_shards()) return absl::OkStatus();
  --missing_[plan_.places[parameter].bucket];
  return StartFullBuckets();
}

absl::Status Gradients::StartFullBuckets() {
  for (; next_bucket_ < static_cast<int32_t>(plan_.buckets.size()) && missing_[next_bucket_] == 0; ++next_bucket_) {
    MUSTER_RETURN_IF_ERROR(buckets_[next_bucket_]->Start(absl::Now() + options_.timeout));
  }
  return absl::OkStatus();
}

absl::Status Gradients::Wait() {
  MUSTER_CHECK(next_bucket_ == static_cast<int32_t>(plan_.buckets.size()), "a gradient was never marked ready");
  for (const auto& bucket : buckets_) MUSTER_RETURN_IF_ERROR(bucket->Wait());
  return absl::OkStatus();
}

void Gradients::Abandon() {
  for (const auto& bucket : buckets_) bucket->Abandon();
}

}  // namespace muster
