#include "muster/trainer.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <numeric>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "muster/sampler.h"
#include "muster/shards.h"
#include "runtime/base/status.h"
#include "runtime/data/mix.h"
#include "runtime/training/agreement.h"
#include "runtime/training/checkpoints.h"
#include "runtime/training/device_place.h"
#include "runtime/training/digest.h"
#include "runtime/training/gradients.h"
#include "runtime/training/host_place.h"
#include "runtime/training/losses.h"
#include "runtime/training/pass.h"
#include "runtime/training/run_place.h"
#include "runtime/training/state.h"
#include "runtime/training/trace.h"
#include "runtime/training/trainer_at.h"
#include "runtime/training/update.h"

namespace muster {
namespace {

// What the seed is used for; each use has a key of its own.
enum SeedUse : uint64_t { kInitialValues = 1, kOrder = 2, kRandomState = 3 };

int64_t CountOf(const ParameterSpec& parameter) {
  return std::accumulate(parameter.shape.begin(), parameter.shape.end(), int64_t{1}, std::multiplies<>());
}

// The first of `total` samples that belong to `shard`.
int64_t FirstSample(int64_t total, int32_t shards, int32_t shard) { return total * shard / shards; }

void FillUniform(float* values, int64_t count, float range, uint64_t key) {
  for (int64_t i = 0; i < count; ++i) {
    const auto bits = static_cast<int32_t>(Mix(key, static_cast<uint64_t>(i)) >> 40);  // 24 bits, exact in float32
    values[i] = static_cast<float>(bits - (1 << 23)) * (1.0f / (1 << 23)) * range;
  }
}

absl::Status CheckWritable(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) return ErrnoToStatus(errno, absl::StrCat("open trace file ", path));
  std::fclose(file);
  return absl::OkStatus();
}

// Whether checkpoints can be written to `folder`, or it can be made: what is there of its path must be a folder to write to. Leaves no
// trace: an operator may still make it.
absl::Status CheckFolder(const std::string& folder) {
  std::filesystem::path there = folder;
  std::error_code error;
  while (!std::filesystem::exists(there, error) && there.has_relative_path()) there = there.parent_path();
  if (there.empty()) there = ".";
  const bool is_folder = std::filesystem::is_directory(there, error);
  if (is_folder && ::access(there.c_str(), W_OK | X_OK) == 0) return absl::OkStatus();
  const int why = is_folder ? errno : ENOTDIR;
  return absl::ResourceExhaustedError(absl::StrCat("cannot write checkpoints to ", folder, ": ", there.string(), ": ",
                                                   ErrnoToStatus(why, "").message(),
                                                   "; give a checkpoint folder that all ranks can write to"));
}

class TrainerImpl final : public Trainer {
 public:
  TrainerImpl(std::unique_ptr<Place> place, Communicator& communicator, std::vector<ParameterSpec> parameters,
              const TrainerOptions& options);
  absl::Status Init();

  absl::StatusOr<StepResult> Step(const PassFunction& pass) override;
  absl::StatusOr<Loss> Evaluate(int64_t samples, const EvaluateFunction& evaluate) override;
  absl::Status Finish() override;
  absl::Status SaveCheckpoint() override;
  int64_t checkpoint_step() const override { return checkpoints_->last_step(); }
  const absl::Status& checkpoint_failure() const override { return checkpoints_->failure(); }
  int64_t resumed_step() const override { return resumed_step_; }
  const std::vector<std::string>& damaged_checkpoints() const override { return checkpoints_->damaged(); }

  int64_t step() const override { return static_cast<int64_t>(state_->word()); }
  int64_t committed_step() const override { return committed_step_; }
  int64_t cursor() const override { return live().cursor; }
  const Sampler& sampler() const override { return sampler_; }
  int parameters() const override { return static_cast<int>(counts_.size()); }
  std::span<const float> value(int i) const override;
  std::span<const float> device_value(int i) const override {
    return {state_->value(state_->live(), i), static_cast<size_t>(counts_[i])};
  }
  void* stream() const override { return place_->stream(); }
  std::span<float> initial_value(int i) override;
  std::vector<int64_t> rank_samples() const override;
  std::string SamplesSha256() const override;
  std::string ParametersSha256() const override;

 private:
  const StateHeader& live() const { return state_->header(state_->live()); }
  absl::Time Deadline() const { return absl::Now() + options_.timeout; }
  int32_t first_shard() const { return FirstShard(options_.shards, communicator_.world_size(), communicator_.rank()); }

  absl::Status MakeCheckpoints();
  absl::Status Resume(const absl::Status& folder);
  std::map<std::string, std::string> Attributes() const;
  absl::Status CheckpointIfDue();
  absl::StatusOr<StepResult> TryStep(const PassFunction& pass);
  absl::Status RecutByReadyTimes();
  absl::StatusOr<Loss> RunShard(int32_t shard, const PassFunction& pass);
  PassContext Context();
  absl::StatusOr<Loss> SumOverShards(std::span<const Loss> leaves);
  absl::Status GatherSamples();
  absl::Status WriteIdleState(const Loss& total);
  void TraceReductions();
  void NoteCollective() { committed_step_ = step(); }

  const std::unique_ptr<Place> place_;  // holds what the others point to
  Communicator& communicator_;
  const std::vector<ParameterSpec> specs_;
  std::vector<int64_t> counts_;
  const TrainerOptions options_;
  const Sampler sampler_;
  std::unique_ptr<TrainingState> state_;
  std::unique_ptr<Gradients> gradients_;
  std::unique_ptr<Checkpoints> checkpoints_;  // reads the state: destroyed before it
  Trace trace_;

  bool broadcast_done_ = false;
  bool recut_done_ = false;
  bool passed_ = false;  // ready_times_ are known
  int64_t resumed_step_ = 0;
  int64_t committed_step_ = 0;
  std::vector<absl::Time> ready_times_;  // by parameter, in this rank's last pass
  std::vector<int64_t> fed_;             // [0]: how many samples this rank fed in this step; then their numbers
  std::vector<int64_t> gathered_;        // fed_ of all ranks
};

TrainerImpl::TrainerImpl(std::unique_ptr<Place> place, Communicator& communicator, std::vector<ParameterSpec> parameters,
                         const TrainerOptions& options)
    : place_(std::move(place)),
      communicator_(communicator),
      specs_(std::move(parameters)),
      options_(options),
      sampler_(options.samples, Mix(options.seed, kOrder)),
      ready_times_(specs_.size()) {
  for (const ParameterSpec& parameter : specs_) counts_.push_back(CountOf(parameter));
}

absl::Status TrainerImpl::Init() {
  const int world_size = communicator_.world_size();
  auto state =
      TrainingState::Create(*place_, world_size, counts_, MomentsOf(options_.optimizer), Mix(options_.seed, kRandomState));
  MUSTER_RETURN_IF_ERROR(place_->Agree(state.status(), Deadline()));
  state_ = *std::move(state);
  for (size_t i = 0; i < specs_.size(); ++i) {
    const uint64_t key = Mix(Mix(options_.seed, kInitialValues), i);
    FillUniform(state_->host(0, 0, static_cast<int32_t>(i)), counts_[i], specs_[i].initial_range, key);
  }
  const GradientOptions gradient_options{options_.shards, std::min(options_.first_bucket_bytes, options_.bucket_bytes),
                                         options_.bucket_bytes, options_.timeout};
  MUSTER_ASSIGN_OR_RETURN(gradients_, Gradients::Create(*place_, world_size, communicator_.rank(), counts_, gradient_options));
  int64_t fed_max = 0;
  for (int rank = 0; rank < world_size; ++rank) {
    const int64_t begin = FirstSample(options_.batch, options_.shards, FirstShard(options_.shards, world_size, rank));
    const int64_t end = FirstSample(options_.batch, options_.shards, FirstShard(options_.shards, world_size, rank + 1));
    fed_max = std::max(fed_max, end - begin);
  }
  fed_.resize(1 + fed_max);
  gathered_.resize(fed_.size() * world_size);
  MUSTER_RETURN_IF_ERROR(MakeCheckpoints());
  if (options_.trace.empty() || communicator_.rank() != 0) return absl::OkStatus();
  absl::Status writable = CheckWritable(options_.trace);
  if (!writable.ok()) communicator_.Abort(Annotate(writable, "rank 0"));  // the others see no fault
  return writable;
}

absl::StatusOr<StepResult> TrainerImpl::Step(const PassFunction& pass) {
  absl::StatusOr<StepResult> result = TryStep(pass);
  if (!result.ok()) gradients_->Abandon();
  return result;
}

absl::StatusOr<StepResult> TrainerImpl::TryStep(const PassFunction& pass) {
  if (!broadcast_done_) MUSTER_RETURN_IF_ERROR(state_->SpreadValues(state_->live(), Deadline()));
  broadcast_done_ = true;
  if (!recut_done_ && passed_) MUSTER_RETURN_IF_ERROR(RecutByReadyTimes());
  fed_[0] = 0;
  std::vector<Loss> losses;
  for (int32_t shard = 0; shard < gradients_->owned_shards(); ++shard) {
    MUSTER_ASSIGN_OR_RETURN(const Loss loss, RunShard(shard, pass));
    losses.push_back(loss);
  }
  MUSTER_RETURN_IF_ERROR(place_->AwaitStarts());
  MUSTER_ASSIGN_OR_RETURN(const Loss total, SumOverShards(losses));
  MUSTER_RETURN_IF_ERROR(GatherSamples());
  MUSTER_RETURN_IF_ERROR(gradients_->Wait());
  passed_ = true;
  const absl::Time begin = absl::Now();
  checkpoints_->AwaitRead(state_->idle());
  MUSTER_RETURN_IF_ERROR(WriteIdleState(total));
  if (!options_.trace.empty()) {
    TraceReductions();
    trace_.Add(Trace::Track::kCompute, "optimizer", "optimizer", begin, absl::Now(), step());
  }
  state_->Flip();
  MUSTER_RETURN_IF_ERROR(CheckpointIfDue());
  return StepResult{step(), total.weight > 0 ? total.sum / static_cast<double>(total.weight) : 0, total.weight};
}

absl::Status TrainerImpl::RecutByReadyTimes() {
  std::vector<int32_t> before;
  for (const BucketPlan::Bucket& bucket : gradients_->plan().buckets) {
    before.insert(before.end(), bucket.parameters.begin(), bucket.parameters.end());
  }
  std::vector<int32_t> order = before;
  std::stable_sort(order.begin(), order.end(), [this](int32_t a, int32_t b) { return ready_times_[a] < ready_times_[b]; });
  MUSTER_RETURN_IF_ERROR(communicator_.Broadcast(MakeTensor(order.data(), static_cast<int64_t>(order.size())), 0, Deadline()));
  NoteCollective();
  // A cut that failed half-way (no memory for a window) is made again.
  if (order != before || !gradients_->has_buckets()) MUSTER_RETURN_IF_ERROR(gradients_->Recut(order));
  recut_done_ = true;
  return absl::OkStatus();
}

absl::StatusOr<Loss> TrainerImpl::RunShard(int32_t shard, const PassFunction& pass) {
  MUSTER_RETURN_IF_ERROR(gradients_->BeginShard(shard));
  const int32_t global_shard = first_shard() + shard;
  const int64_t begin = FirstSample(options_.batch, options_.shards, global_shard);
  const int64_t samples = FirstSample(options_.batch, options_.shards, global_shard + 1) - begin;
  const auto passes = static_cast<int32_t>(std::min<int64_t>(options_.accumulate, samples));
  Loss sum;
  for (int32_t i = 0; i < passes; ++i) {
    std::vector<int64_t> numbers;
    for (int64_t place = FirstSample(samples, passes, i); place < FirstSample(samples, passes, i + 1); ++place) {
      numbers.push_back(sampler_.SampleAt(cursor() + begin + place));
    }
    std::copy(numbers.begin(), numbers.end(), fed_.begin() + 1 + fed_[0]);
    fed_[0] += static_cast<int64_t>(numbers.size());
    const uint64_t random_seed = Mix(Mix(live().random_state, global_shard), i);
    MUSTER_ASSIGN_OR_RETURN(const Loss loss,
                            RunPass(Context(), {global_shard, i + 1 == passes, std::move(numbers), random_seed}, pass));
    sum.sum += loss.sum;
    sum.weight += loss.weight;
  }
  for (int32_t parameter = 0; parameter < parameters(); ++parameter) {  // a shard without samples
    MUSTER_RETURN_IF_ERROR(gradients_->Ready(parameter));
  }
  return sum;
}

PassContext TrainerImpl::Context() {
  return {
      communicator_, *gradients_, *state_, counts_, place_->stream(), ready_times_, options_.trace.empty() ? nullptr : &trace_};
}

absl::StatusOr<Loss> TrainerImpl::SumOverShards(std::span<const Loss> leaves) {
  MUSTER_ASSIGN_OR_RETURN(const Loss total, SumLosses(communicator_, options_.shards, leaves, Deadline()));
  NoteCollective();
  return total;
}

absl::Status TrainerImpl::GatherSamples() {
  const auto count = static_cast<int64_t>(fed_.size());
  MUSTER_RETURN_IF_ERROR(communicator_.AllGather(MakeTensor(fed_.data(), count),
                                                 MakeTensor(gathered_.data(), count * communicator_.world_size()), Deadline()));
  int64_t total = 0;
  for (int rank = 0; rank < communicator_.world_size(); ++rank) total += gathered_[rank * count];
  if (total == options_.batch) return absl::OkStatus();
  return absl::InternalError(absl::StrFormat("the ranks fed %d samples in step %d, not %d", total, step(), options_.batch));
}

absl::Status TrainerImpl::WriteIdleState(const Loss& total) {
  const int from = state_->live();
  const int to = state_->idle();
  state_->BeginWrite();
  StateHeader header = state_->header(from);
  header.step += 1;
  header.cursor += options_.batch;
  header.weight += total.weight;
  header.random_state = Mix(header.random_state);
  Sha256 digest;
  digest.Update(header.samples_digest, sizeof(header.samples_digest));
  for (int rank = 0; rank < communicator_.world_size(); ++rank) {
    const int64_t* fed = gathered_.data() + rank * static_cast<int64_t>(fed_.size());
    digest.Update(fed + 1, static_cast<size_t>(fed[0]) * sizeof(int64_t));
    state_->rank_samples(to)[rank] = state_->rank_samples(from)[rank] + fed[0];
  }
  const Digest samples_digest = digest.Finish();
  std::memcpy(header.samples_digest, samples_digest.data(), samples_digest.size());
  state_->header(to) = header;

  const float scale = total.weight > 0 ? static_cast<float>(1.0 / static_cast<double>(total.weight)) : 0.0f;
  const UpdateNumbers numbers = NumbersOf(options_.optimizer, state_->header(from).step, scale);
  const int moments = MomentsOf(options_.optimizer);
  for (int32_t i = 0; i < parameters(); ++i) {
    UpdateInput input{gradients_->Sum(i), state_->value(from, i), {}};
    UpdateOutput output{state_->value(to, i), {}};
    for (int moment = 0; moment < moments; ++moment) {
      input.moment[moment] = state_->moment(from, moment, i);
      output.moment[moment] = state_->moment(to, moment, i);
    }
    MUSTER_RETURN_IF_ERROR(place_->Update(numbers, counts_[i], input, output));
  }
  return place_->Finish();
}

void TrainerImpl::TraceReductions() {
  for (size_t bucket = 0; bucket < gradients_->plan().buckets.size(); ++bucket) {
    const Bucket& reduced = gradients_->bucket(static_cast<int32_t>(bucket));
    const int64_t bytes = gradients_->plan().buckets[bucket].floats * SizeOf(DataType::kFloat32);
    trace_.Add(Trace::Track::kCommunication, "all_reduce", absl::StrFormat("all-reduce bucket %d (%d bytes)", bucket, bytes),
               reduced.StartTime(), reduced.EndTime(), step());
  }
}

absl::StatusOr<Loss> TrainerImpl::Evaluate(int64_t samples, const EvaluateFunction& evaluate) {
  std::vector<Loss> losses;
  for (int32_t shard = first_shard(); shard < first_shard() + gradients_->owned_shards(); ++shard) {
    const int64_t begin = FirstSample(samples, options_.shards, shard);
    const int64_t end = FirstSample(samples, options_.shards, shard + 1);
    absl::StatusOr<Loss> loss = begin < end ? evaluate(begin, end) : Loss{};
    if (!loss.ok()) {
      communicator_.Abort(Annotate(loss.status(), absl::StrCat("rank ", communicator_.rank(), " in its evaluation")));
      return loss;
    }
    losses.push_back(*loss);
  }
  return SumOverShards(losses);
}

absl::Status TrainerImpl::Finish() {
  MUSTER_RETURN_IF_ERROR(communicator_.Barrier(Deadline()));
  NoteCollective();
  MUSTER_RETURN_IF_ERROR(checkpoints_->Complete());
  if (options_.trace.empty()) return absl::OkStatus();
  return trace_.Write(communicator_, options_.trace);
}

// --- Checkpoints ---

absl::Status TrainerImpl::MakeCheckpoints() {
  checkpoints_ = std::make_unique<Checkpoints>(communicator_, PosixFileSystem(), options_.checkpoint, options_.timeout, *state_,
                                               TensorsOf(specs_, MomentsOf(options_.optimizer)), FixedAttributes(options_));
  if (options_.checkpoint.folder.empty()) return absl::OkStatus();
  const bool writes = options_.checkpoint.every_steps > 0;
  return Resume(writes ? Annotate(CheckFolder(options_.checkpoint.folder), absl::StrCat("rank ", communicator_.rank()))
                       : absl::OkStatus());
}

std::map<std::string, std::string> TrainerImpl::Attributes() const {
  RunPlace place{live().cursor, live().weight, live().random_state, {}, {}};
  std::memcpy(place.samples_digest.data(), live().samples_digest, place.samples_digest.size());
  for (const BucketPlan::Bucket& bucket : gradients_->plan().buckets) {
    place.bucket_order.insert(place.bucket_order.end(), bucket.parameters.begin(), bucket.parameters.end());
  }
  return AttributesOf(place);
}

// `folder`: what this rank alone has against it.
absl::Status TrainerImpl::Resume(const absl::Status& folder) {
  using Attributes = std::map<std::string, std::string>;
  MUSTER_ASSIGN_OR_RETURN(const Attributes attributes, checkpoints_->Resume(folder));
  if (attributes.empty()) return absl::OkStatus();
  StateHeader& header = state_->header(state_->live());
  header.step = resumed_step_ = committed_step_ = step();
  const std::optional<RunPlace> place = RunPlaceOf(attributes, parameters());
  if (!place.has_value()) {  // every checksum was right, so another program wrote it
    return absl::FailedPreconditionError(
        absl::StrFormat("step-%d in %s is no checkpoint of a muster trainer: its attributes cursor, weight, random_state, "
                        "samples_sha256 and bucket_order cannot be read",
                        resumed_step_, options_.checkpoint.folder));
  }
  header.cursor = place->cursor;
  header.weight = place->weight;
  header.random_state = place->random_state;
  std::memcpy(header.samples_digest, place->samples_digest.data(), place->samples_digest.size());
  std::ranges::fill(state_->rank_samples(state_->live()), 0);
  broadcast_done_ = recut_done_ = true;
  return gradients_->Recut(place->bucket_order);
}

absl::Status TrainerImpl::CheckpointIfDue() {
  MUSTER_RETURN_IF_ERROR(checkpoints_->Advance());
  const CheckpointOptions& checkpoint = options_.checkpoint;
  if (checkpoint.folder.empty() || checkpoint.every_steps == 0 || step() % checkpoint.every_steps != 0) return absl::OkStatus();
  return SaveCheckpoint();
}

absl::Status TrainerImpl::SaveCheckpoint() {
  if (options_.checkpoint.folder.empty()) {
    return absl::FailedPreconditionError("no folder for checkpoints: set TrainerOptions::checkpoint.folder");
  }
  // What is saved must be applied everywhere: the first collective that follows shows it before anything is committed.
  MUSTER_RETURN_IF_ERROR(checkpoints_->Begin(step(), state_->live(), Attributes()));
  NoteCollective();
  return absl::OkStatus();
}

std::span<const float> TrainerImpl::value(int i) const {
  const int block = state_->live();
  if (!state_->Fetch(block, 0, i).ok()) return {};
  return {state_->host(block, 0, i), static_cast<size_t>(counts_[i])};
}

std::span<float> TrainerImpl::initial_value(int i) {
  if (broadcast_done_) return {};
  return {state_->host(0, 0, i), static_cast<size_t>(counts_[i])};
}

std::vector<int64_t> TrainerImpl::rank_samples() const {
  const std::span<int64_t> samples = state_->rank_samples(state_->live());
  return {samples.begin(), samples.end()};
}

std::string TrainerImpl::SamplesSha256() const {
  Digest digest;
  std::memcpy(digest.data(), live().samples_digest, digest.size());
  return ToHex(digest);
}

std::string TrainerImpl::ParametersSha256() const {
  Sha256 hash;
  for (int i = 0; i < parameters(); ++i) hash.Update(value(i).data(), value(i).size_bytes());
  return ToHex(hash.Finish());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Trainer>> CreateTrainerAt(std::unique_ptr<Place> place, Communicator& communicator,
                                                         std::vector<ParameterSpec> parameters, const TrainerOptions& options) {
  MUSTER_RETURN_IF_ERROR(CheckOptions(parameters, options, communicator.world_size()));
  MUSTER_RETURN_IF_ERROR(CheckAgreement(communicator, parameters, options));
  auto trainer = std::make_unique<TrainerImpl>(std::move(place), communicator, std::move(parameters), options);
  MUSTER_RETURN_IF_ERROR(trainer->Init());
  return trainer;
}

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(Communicator& communicator, std::vector<ParameterSpec> parameters,
                                                         const TrainerOptions& options) {
  std::unique_ptr<Place> place;
  if (options.device == Device::kCuda) {
    MUSTER_ASSIGN_OR_RETURN(place, CreateCudaPlace(communicator, options.cuda_device));
  } else {
    place = std::make_unique<HostPlace>(communicator);
  }
  return CreateTrainerAt(std::move(place), communicator, std::move(parameters), options);
}

}  // namespace muster
