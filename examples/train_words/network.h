// The model's passes, on the host or on a GPU.
#ifndef TRAIN_WORDS_NETWORK_H_
#define TRAIN_WORDS_NETWORK_H_

#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "model.h"
#include "muster/trainer.h"
#include "words.h"

// One thread. Values and gradients are the trainer's, and lie where it computes.
class Network {
 public:
  virtual ~Network() = default;

  // As Model::Train and Model::Evaluate. Errors: Internal, the GPU's own.
  virtual absl::StatusOr<muster::Loss> Train(muster::Pass& pass, std::span<const Word* const> words) = 0;
  virtual absl::StatusOr<muster::Loss> Evaluate(const muster::Trainer& trainer, std::span<const Word* const> words) = 0;
};

// `model` outlives it.
std::unique_ptr<Network> HostNetwork(Model& model);

// GPUs that train_words can compute on here, at least 1.
// Errors: those of muster::CudaDevices; FailedPrecondition, too, where train_words' own code for GPUs cannot be loaded.
absl::StatusOr<int> NetworkGpus();

// On GPU `device`, counted as CUDA does. Errors: those of NetworkGpus, Internal.
absl::StatusOr<std::unique_ptr<Network>> CudaNetwork(const ModelShape& shape, int device);

#endif  // TRAIN_WORDS_NETWORK_H_
