#include "network.h"

#include <dlfcn.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "model_cuda.h"
#include "positions.h"

namespace {

class OnHost final : public Network {
 public:
  explicit OnHost(Model& model) : model_(model) {}
  absl::StatusOr<muster::Loss> Train(muster::Pass& pass, std::span<const Word* const> words) override {
    return model_.Train(pass, words);
  }
  absl::StatusOr<muster::Loss> Evaluate(const muster::Trainer& trainer, std::span<const Word* const> words) override {
    Model::Values values;
    for (int i = 0; i < trainer.parameters(); ++i) values.push_back(trainer.value(i));
    return model_.Evaluate(values, words);
  }

 private:
  Model& model_;
};

struct Library {
  TrainWordsCudaModel model = nullptr;
  TrainWordsCudaErrorText error_text = nullptr;

  std::string Text(int code) const {
    char text[256] = {};
    error_text(code, text, sizeof(text));
    return text;
  }
};

// libtrain_words_cuda.so stands beside the program.
absl::StatusOr<Library> OpenLibrary() {
  char program[PATH_MAX] = {};
  const ssize_t length = ::readlink("/proc/self/exe", program, sizeof(program) - 1);
  std::string path(program, length > 0 ? static_cast<size_t>(length) : 0);
  path = absl::StrCat(path.substr(0, path.rfind('/') + 1), "libtrain_words_cuda.so");
  if (::access(path.c_str(), F_OK) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("this train_words has no code for GPUs (", path, " is not there); build it where nvcc and cuBLAS are"));
  }
  void* const handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* const why = ::dlerror();
    return absl::FailedPreconditionError(
        absl::StrCat("train_words' code for GPUs cannot be loaded: ", why == nullptr ? path : why,
                     "; install cuBLAS, or name its folder in LD_LIBRARY_PATH"));
  }
  const auto version = reinterpret_cast<TrainWordsCudaVersion>(::dlsym(handle, "train_words_cuda_version"));
  Library library;
  library.model = reinterpret_cast<TrainWordsCudaModel>(::dlsym(handle, "train_words_cuda_model"));
  library.error_text = reinterpret_cast<TrainWordsCudaErrorText>(::dlsym(handle, "train_words_cuda_error_text"));
  if (version == nullptr || version() != kModelCudaVersion || library.model == nullptr || library.error_text == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(path, " is of another train_words; build both together"));
  }
  return library;
}

class OnCuda final : public Network {
 public:
  OnCuda(const Library& library, const ModelShape& shape, std::unique_ptr<ModelCuda> model)
      : library_(library), context_(shape.context), model_(std::move(model)) {}

  absl::StatusOr<muster::Loss> Train(muster::Pass& pass, std::span<const Word* const> words) override {
    const Positions at = Positions::Of(words, context_);
    const float* values[kModelParameters];
    float* gradients[kModelParameters];
    for (int i = 0; i < kModelParameters; ++i) {
      values[i] = pass.value(i).data();
      gradients[i] = pass.gradient(i).data();
    }
    const auto ready = [](void* context, int parameter) {
      auto& of = *static_cast<muster::Pass*>(context);
      parameter < 0 ? of.BackwardBegins() : of.GradientReady(parameter);
    };
    muster::Loss loss{0, static_cast<int64_t>(at.targets.size())};
    const int code = model_->Train(values, gradients, at.contexts.data(), at.targets.data(), loss.weight, pass.stream(), ready,
                                   &pass, &loss.sum);
    if (code != 0) return Failed(code);
    return loss;
  }

  absl::StatusOr<muster::Loss> Evaluate(const muster::Trainer& trainer, std::span<const Word* const> words) override {
    const Positions at = Positions::Of(words, context_);
    const float* values[kModelParameters];
    for (int i = 0; i < kModelParameters; ++i) values[i] = trainer.device_value(i).data();
    muster::Loss loss{0, static_cast<int64_t>(at.targets.size())};
    const int code = model_->Evaluate(values, at.contexts.data(), at.targets.data(), loss.weight, trainer.stream(), &loss.sum);
    if (code != 0) return Failed(code);
    return loss;
  }

 private:
  absl::Status Failed(int code) const {
    return absl::InternalError(absl::StrCat("the GPU cannot run the model: ", library_.Text(code)));
  }

  const Library library_;
  const int context_;
  const std::unique_ptr<ModelCuda> model_;
};

}  // namespace

std::unique_ptr<Network> HostNetwork(Model& model) { return std::make_unique<OnHost>(model); }

absl::StatusOr<int> NetworkGpus() {
  const absl::StatusOr<int> devices = muster::CudaDevices();
  if (!devices.ok()) return devices;
  const absl::StatusOr<Library> library = OpenLibrary();
  if (!library.ok()) return library.status();
  return devices;
}

absl::StatusOr<std::unique_ptr<Network>> CudaNetwork(const ModelShape& shape, int device) {
  absl::StatusOr<Library> library = OpenLibrary();
  if (!library.ok()) return library.status();
  const ModelCudaShape plain{shape.symbols, shape.context, shape.embed, shape.hidden};
  ModelCuda* model = nullptr;
  if (const int code = library->model(&plain, device, &model); code != 0) {
    return absl::InternalError(absl::StrCat("the model cannot be made on GPU ", device, ": ", library->Text(code)));
  }
  return std::make_unique<OnCuda>(*library, shape, std::unique_ptr<ModelCuda>(model));
}
