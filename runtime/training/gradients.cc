#include "runtime/training/gradients.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <thread>
#include <utility>

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

AlignedFloats::AlignedFloats(int64_t count) {
  const size_t bytes = static_cast<size_t>(AlignUp(std::max<int64_t>(count, 1))) * sizeof(float);
  memory_.reset(std::aligned_alloc(kTensorAlignment * sizeof(float), bytes));
  MUSTER_CHECK(memory_ != nullptr, "out of memory for gradients");
  std::memset(memory_.get(), 0, bytes);
}

void AlignedFloats::Free::operator()(void* memory) const { std::free(memory); }

absl::StatusOr<std::unique_ptr<Gradients>> Gradients::Create(Communicator& communicator, std::vector<int64_t> counts,
                                                             const GradientOptions& options) {
  std::unique_ptr<Gradients> gradients(new Gradients(communicator, std::move(counts), options));
  MUSTER_RETURN_IF_ERROR(gradients->Recut(LastFirst(gradients->counts_.size())));
  return gradients;
}

Gradients::Gradients(Communicator& communicator, std::vector<int64_t> counts, const GradientOptions& options)
    : communicator_(communicator),
      counts_(std::move(counts)),
      options_(options),
      steps_(PlanFold(OwnedPartials(options.shards, communicator.world_size(), communicator.rank()))),
      rows_(PartialsMax(options.shards, communicator.world_size())),
      ready_(counts_.size(), false) {
  int64_t floats = 0;
  for (const int64_t count : counts_) {
    offsets_.push_back(floats);
    floats += AlignUp(count);
  }
  for (int32_t level = 0; level < FoldLevels(steps_); ++level) levels_.emplace_back(floats);
  const bool carries = std::any_of(steps_.begin(), steps_.end(), [](const FoldStep& step) { return step.carries > 0; });
  if (carries) leaf_ = std::make_unique<AlignedFloats>(floats);
}

Gradients::~Gradients() { Abandon(); }

absl::Status Gradients::Recut(std::span<const int32_t> order) {
  windows_.clear();
  plan_ = CutBuckets(counts_, order, options_.first_bucket_bytes, options_.bucket_bytes);
  works_.clear();
  works_.resize(plan_.buckets.size());
  missing_.resize(plan_.buckets.size());
  for (const BucketPlan::Bucket& bucket : plan_.buckets) {
    MUSTER_ASSIGN_OR_RETURN(auto window, communicator_.CreateWindow(bucket.floats * rows_ * SizeOf(DataType::kFloat32)));
    windows_.push_back(std::move(window));
  }
  return absl::OkStatus();
}

float* Gradients::Row(int32_t parameter, int32_t partial) const {
  const BucketPlan::Place place = plan_.places[parameter];
  return static_cast<float*>(windows_[place.bucket]->data()) + partial * plan_.buckets[place.bucket].floats + place.offset;
}

float* Gradients::Target(int32_t parameter) const {
  const FoldStep& step = steps_[shard_];
  return step.completes ? Row(parameter, step.partial) : levels_[step.level].data() + offsets_[parameter];
}

float* Gradients::Gradient(int32_t parameter) const {
  return steps_[shard_].carries == 0 ? Target(parameter) : leaf_->data() + offsets_[parameter];
}

void Gradients::BeginShard(int32_t shard) {
  shard_ = shard;
  if (shard == 0) {
    for (size_t bucket = 0; bucket < works_.size(); ++bucket) {
      works_[bucket] = nullptr;
      missing_[bucket] = static_cast<int32_t>(plan_.buckets[bucket].parameters.size());
    }
    next_bucket_ = 0;
  }
  ready_.assign(counts_.size(), false);
  for (size_t i = 0; i < counts_.size(); ++i) std::memset(Gradient(static_cast<int32_t>(i)), 0, counts_[i] * sizeof(float));
}

absl::Status Gradients::Ready(int32_t parameter) {
  if (ready_[parameter]) return absl::OkStatus();
  const FoldStep& step = steps_[shard_];
  if (step.carries > 0) {
    const float* pending[32];
    for (int32_t level = 0; level < step.carries; ++level) pending[level] = levels_[level].data() + offsets_[parameter];
    FoldInto(Target(parameter), {pending, static_cast<size_t>(step.carries)}, Gradient(parameter), counts_[parameter]);
  }
  ready_[parameter] = true;
  if (shard_ + 1 < owned_shards()) return absl::OkStatus();
  --missing_[plan_.places[parameter].bucket];
  return StartFullBuckets();
}

absl::Status Gradients::StartFullBuckets() {
  for (; next_bucket_ < static_cast<int32_t>(plan_.buckets.size()) && missing_[next_bucket_] == 0; ++next_bucket_) {
    const int64_t floats = plan_.buckets[next_bucket_].floats;
    const ShardedTensor partials{windows_[next_bucket_]->data(), floats, floats * SizeOf(DataType::kFloat32),
                                 DataType::kFloat32, options_.shards};
    MUSTER_ASSIGN_OR_RETURN(works_[next_bucket_],
                            communicator_.StartAllReduceShards(partials, ReduceOp::kSum, absl::Now() + options_.timeout));
    // Where ranks share a core the progress thread would wait for this thread's time slice, and all peers for it.
    std::this_thread::yield();
  }
  return absl::OkStatus();
}

absl::Status Gradients::Wait() {
  MUSTER_CHECK(next_bucket_ == static_cast<int32_t>(plan_.buckets.size()), "a gradient was never marked ready");
  for (const auto& work : works_) MUSTER_RETURN_IF_ERROR(work->Wait());
  return absl::OkStatus();
}

void Gradients::Abandon() {
  for (const auto& work : works_) {
    if (work != nullptr) work->Wait().IgnoreError();
  }
}

}  // namespace muster
