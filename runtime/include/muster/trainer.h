// Trains a model on all ranks of a communicator, with the same bits at every world size.
//
//   auto trainer = muster::Trainer::Create(session->world(), {{"weight", {inputs, outputs}, 0.1f}, {"bias", {outputs}}}, options);
//   while ((*trainer)->step() < 500) {
//     auto result = (*trainer)->Step([&](muster::Pass& pass) -> absl::StatusOr<muster::Loss> {
//       ... forward: pass.samples(), pass.value(0), pass.value(1);
//       ... backward: add into pass.gradient(1), then pass.GradientReady(1); add into pass.gradient(0), then ...
//       return muster::Loss{loss_sum, weight};
//     });
//     if (!result.ok()) ...
//   }
//   absl::Status finished = (*trainer)->Finish();
#ifndef MUSTER_TRAINER_H_
#define MUSTER_TRAINER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/communicator.h"
#include "muster/optimizer.h"
#include "muster/sampler.h"

namespace muster {

// A float32 tensor that is trained. It is known by its place in the list given to Trainer::Create.
struct ParameterSpec {
  std::string name;
  std::vector<int64_t> shape;  // every extent >= 1; the last one varies fastest in memory
  float initial_range = 0;     // starts uniformly random in [-range, range), by the seed
};

// Checkpoints are the same bytes at every world size and load at any (docs: runtime/checkpoint/FORMAT.md). The folder must be one
// that all nodes share; every rank writes a part of the files, in the background, while the next step computes.
struct CheckpointOptions {
  std::string folder;       // empty: none are written
  int64_t every_steps = 0;  // after each step that is a multiple; 0: only by SaveCheckpoint and resume
  int32_t keep = 3;         // the newest so many stay; at least 1
  bool resume = false;      // go on from the newest complete one; without any, from the beginning
};

// Where parameters, moments and gradients live, and what updates them. On a GPU, pointers that a pass is given are to its memory; bits
// of sums and updates are those of the host.
enum class Device {
  kHost,
  kCuda,  // an NVIDIA GPU
};

// How many GPUs this process can train on with Device::kCuda, at least 1.
// Errors: FailedPrecondition: one sentence says what is missing (a GPU, its driver, the CUDA runtime, libmuster_cuda.so) and the remedy.
absl::StatusOr<int> CudaDevices();

struct TrainerOptions {
  int64_t samples = 0;     // size of the data set
  int64_t batch = 64;      // samples a step, over all ranks
  int32_t shards = 8;      // virtual shards a step is cut into; the largest world size, and part of what the bits depend on
  int32_t accumulate = 1;  // passes a shard is cut into, to save memory
  uint64_t seed = 1;       // of initial values, the order of samples, and Pass::random_seed
  OptimizerOptions optimizer;
  int64_t first_bucket_bytes = int64_t{1} << 20;  // gradients reduced together: the first bucket, the only one that is small,
  int64_t bucket_bytes = int64_t{25} << 20;       // and the others; a smaller bucket_bytes holds for the first one too
  std::string trace;                              // if set, Finish writes a trace for https://ui.perfetto.dev here (rank 0)
  absl::Duration timeout = absl::InfiniteDuration();  // of each collective
  CheckpointOptions checkpoint;
  Device device = Device::kHost;
  int32_t cuda_device = -1;  // kCuda: the GPU's number in CUDA; -1: the calling thread's current one
};

// A loss summed over samples, and what to divide by for the mean: the number of samples, tokens, ...
struct Loss {
  double sum = 0;
  int64_t weight = 0;
};

// One forward and backward pass over one shard's samples, or over a part of them when accumulating. What a pass computes may
// depend only on what is in here: then its bits do not depend on the world size. Valid during the call; used by one thread.
class Pass {
 public:
  virtual ~Pass() = default;
  Pass(const Pass&) = delete;
  Pass& operator=(const Pass&) = delete;

  // Numbers of the samples to train on, in [0, TrainerOptions::samples); at least one.
  virtual std::span<const int64_t> samples() const = 0;

  // The parameter as it is in this step, on a 64-byte boundary; with Device::kCuda in the GPU's memory, as gradients are.
  virtual std::span<const float> value(int parameter) const = 0;

  // Where to ADD the gradient of the summed (not the mean) loss, on a 64-byte boundary. Zero at first, or the sum of the
  // shard's passes before. Not to be touched after GradientReady(parameter).
  virtual std::span<float> gradient(int parameter) = 0;

  // This pass adds nothing more to the gradient of `parameter`. Calling it as early as possible, in the order of the backward
  // pass, is what lets the reduction run meanwhile. What is not marked is ready when the pass returns.
  // With Device::kCuda what stream() holds by then makes the gradient; the call does not wait for it.
  virtual void GradientReady(int parameter) = 0;

  // The cudaStream_t for the pass's work; null with Device::kHost. Values may be read and gradients added to by what is queued to it,
  // or to streams that wait for it and that it waits for before GradientReady. The Loss has to be on the host when the pass returns.
  virtual void* stream() const = 0;

  // The forward pass is done: only for the trace.
  virtual void BackwardBegins() = 0;

  // A number for this pass's own randomness (dropout, say); the same at every world size.
  virtual uint64_t random_seed() const = 0;
  virtual int64_t step() const = 0;   // counted from 0
  virtual int32_t shard() const = 0;  // in [0, shards)

 protected:
  Pass() = default;
};

struct StepResult {
  int64_t step = 0;    // steps applied, this one included
  double loss = 0;     // mean over the global batch, before the update
  int64_t weight = 0;  // of the global batch
};

// Step t trains on places [t*batch, (t+1)*batch) of the Sampler's order. Shard v of V takes part [v*batch/V, (v+1)*batch/V) of
// them, rank r of P computes shards [r*V/P, (r+1)*V/P), one after another, and gradients are summed over shards along the
// canonical tree (muster/tensor.h). So nothing that is computed depends on P.
//
// A step is a transaction: everything it changes goes into a second copy of the state, and flipping one word applies it. A step
// that fails leaves values, cursor, digest and counters as they were, and calling Step again trains on the same samples.
//
// Every rank makes the same calls in the same order, from one thread. The communicator may be used between calls. Errors come
// from the communicator (see there) or from the caller's own functions; the latter abort the communicator, so that peers do not
// wait for this rank.
class Trainer {
 public:
  // Collective. Makes windows for the state (twice) and for gradients; with Device::kCuda the state is in the GPU's memory.
  // Errors: InvalidArgument (more ranks than shards, an extent or option out of range, or options that differ between ranks:
  // the message names the option, the rank and both values), ResourceExhausted (Communicator::CreateWindow; a
  // checkpoint folder that some rank, which is named, cannot write to though every_steps is set), FailedPrecondition (the folder holds checkpoints of another run, naming what
  // differs; or of this one, and resume is not set; or Device::kCuda, and CudaDevices fails), DataLoss (there are checkpoints, but none is
  // whole), and a trace file that cannot be written. Where one rank's GPU fails or is too small (Internal, ResourceExhausted) every rank
  // has that error, which names it.
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(Communicator& communicator, std::vector<ParameterSpec> parameters,
                                                         const TrainerOptions& options);
  virtual ~Trainer() = default;
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  // Collective. Runs `pass` for each pass of this rank (not for shards without samples) and updates the parameters.
  // The first step begins by copying rank 0's parameters to all.
  using PassFunction = std::function<absl::StatusOr<Loss>(Pass& pass)>;
  virtual absl::StatusOr<StepResult> Step(const PassFunction& pass) = 0;

  // Collective. Sums `evaluate(begin, end)` over [0, samples), cut into shards as a batch is: the same bits at every world
  // size.
  using EvaluateFunction = std::function<absl::StatusOr<Loss>(int64_t begin, int64_t end)>;
  virtual absl::StatusOr<Loss> Evaluate(int64_t samples, const EvaluateFunction& evaluate) = 0;

  // Collective. Returns when every rank has applied the last step, which is then committed; writes the trace.
  // Also waits for a checkpoint that is being written, and commits it.
  virtual absl::Status Finish() = 0;

  // Collective. Begins a checkpoint of the last applied step, unless that step has one. It is committed during later steps, or
  // by Finish. A checkpoint that cannot be written (ResourceExhausted: path and remedy) fails the Step or Finish that learns of
  // it, on all ranks; the trainer goes on working and the newest complete checkpoint stays.
  virtual absl::Status SaveCheckpoint() = 0;
  virtual int64_t checkpoint_step() const = 0;  // the newest on disk; -1: none
  // Why the last checkpoint could not be written, if that is what failed the call before; else OK.
  virtual const absl::Status& checkpoint_failure() const = 0;
  virtual int64_t resumed_step() const = 0;  // where this trainer began; 0: at the beginning
  // What was found damaged while resuming, and passed over: one sentence each, on rank 0.
  virtual const std::vector<std::string>& damaged_checkpoints() const = 0;

  virtual int64_t step() const = 0;            // steps applied on this rank
  virtual int64_t committed_step() const = 0;  // steps that every rank is known to have applied
  virtual int64_t cursor() const = 0;          // place of the next step's first sample
  virtual const Sampler& sampler() const = 0;  // what stands at which place

  virtual int parameters() const = 0;

  // For the host to read. With Device::kCuda the first call after a step copies it, and it is empty when the GPU has failed, of which
  // the next Step tells.
  virtual std::span<const float> value(int parameter) const = 0;
  // As Pass::value and Pass::stream, for Evaluate: where the trainer computes.
  virtual std::span<const float> device_value(int parameter) const = 0;
  virtual void* stream() const = 0;

  // Before the first step, for initial values of the caller's own (rank 0's count), in the host's memory; empty afterwards.
  virtual std::span<float> initial_value(int parameter) = 0;

  // Samples each rank has fed to its passes since this trainer began, by rank.
  virtual std::vector<int64_t> rank_samples() const = 0;

  // d(t) = SHA-256(d(t-1), then the sample numbers of step t in the order of the cursor as 64-bit little-endian), d(0) = 32
  // zero bytes; the numbers come from the ranks that trained on them. Lower-case hexadecimal.
  virtual std::string SamplesSha256() const = 0;

  // SHA-256 of all parameters in order of registration, as little-endian float32 with nothing between them.
  virtual std::string ParametersSha256() const = 0;

 protected:
  Trainer() = default;
};

}  // namespace muster

#endif  // MUSTER_TRAINER_H_
