// A trainer in a real GPU's memory: the bits of the host, and reductions beside the backward pass.
#include <cstdio>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "runtime/training/device_place.h"
#include "runtime/training/trainer_at.h"
#include "tests/gpu/real_gpu.h"
#include "tests/property/training/toy.h"
#include "tests/property/training/watched.h"

namespace muster::test {
namespace {

class GpuTraining : public OnGpu {
 protected:
  // ToyPass, whose gradients are made on the host and added on the GPU.
  Trainer::PassFunction ToyOnGpu() {
    return [this](Pass& pass) -> absl::StatusOr<Loss> {
      Loss loss;
      for (int parameter = static_cast<int>(ToyParameters().size()) - 1; parameter >= 0; --parameter) {
        const std::span<const float> value = pass.value(parameter);
        const std::span<float> gradient = pass.gradient(parameter);
        std::vector<float> values(value.size()), gradients(value.size());
        const auto bytes = static_cast<int64_t>(value.size_bytes());
        if (cuda_->Copy(values.data(), value.data(), bytes, pass.stream()) != kCudaOk ||
            cuda_->Copy(gradients.data(), gradient.data(), bytes, pass.stream()) != kCudaOk ||
            cuda_->Synchronize(pass.stream()) != kCudaOk) {
          return absl::InternalError("copy from the GPU");
        }
        for (const int64_t sample : pass.samples()) {
          for (size_t i = 0; i < values.size(); ++i) {
            gradients[i] += ToyGradient(sample, parameter, static_cast<int64_t>(i), values[i]);
            loss.sum += values[i] * 0.1 + static_cast<double>(sample);
          }
        }
        if (cuda_->Copy(gradient.data(), gradients.data(), bytes, pass.stream()) != kCudaOk ||
            cuda_->Synchronize(pass.stream()) != kCudaOk) {
          return absl::InternalError("copy to the GPU");
        }
        pass.GradientReady(parameter);
      }
      loss.weight = 3 * static_cast<int64_t>(pass.samples().size());
      return loss;
    };
  }

  absl::StatusOr<std::unique_ptr<Trainer>> Create(Communicator& communicator, std::vector<ParameterSpec> parameters,
                                                  const TrainerOptions& options) {
    auto place = CreateDevicePlace(communicator, cuda_, *kernels_, 0);
    if (!place.ok()) return place.status();
    return CreateTrainerAt(*std::move(place), communicator, std::move(parameters), options);
  }
};

TEST_F(GpuTraining, HasTheBitsOfTheHost) {
  for (const int world_size : {1, 3}) {
    for (const OptimizerKind kind : {OptimizerKind::kAdamW, OptimizerKind::kSgd}) {
      TrainerOptions options = ToyOptions();
      options.optimizer.kind = kind;
      options.bucket_bytes = 200;
      ToyResult host, gpu;
      RunRanks(world_size, [&](Communicator& communicator) {
        const auto result = TrainToy(communicator, options, 5);
        ASSERT_TRUE(result.ok()) << result.status();
        if (communicator.rank() == 0) host = *result;
      });
      RunRanks(world_size, [&](Communicator& communicator) {
        ASSERT_EQ(cuda_->SetDevice(0), kCudaOk);
        auto trainer = Create(communicator, ToyParameters(), options);
        ASSERT_TRUE(trainer.ok()) << trainer.status();
        const auto result = TrainToy(**trainer, 5, ToyOnGpu());
        ASSERT_TRUE(result.ok()) << result.status();
        if (communicator.rank() == 0) gpu = *result;
      });
      EXPECT_EQ(gpu, host) << world_size << " ranks";
    }
  }
}

// After the last parameter's gradient is ready, the stream gets work for a good while; its bucket's all-reduce ends before that work
// does.
TEST_F(GpuTraining, ReducesBesideTheBackwardPass) {
  constexpr int64_t kFloats = int64_t{1} << 26;
  constexpr int kLaunches = 600;
  float* const busy = Upload(std::vector<float>(kFloats));
  RunRanks(1, [&](Communicator& inner) {
    ASSERT_EQ(cuda_->SetDevice(0), kCudaOk);
    WatchedCommunicator watched(inner);
    TrainerOptions options = ToyOptions();
    options.shards = 1;
    options.bucket_bytes = 4;
    auto trainer = Create(watched, ToyParameters(), options);
    ASSERT_TRUE(trainer.ok()) << trainer.status();
    bool beside = false;
    const auto step = (*trainer)->Step([&](Pass& pass) -> absl::StatusOr<Loss> {
      pass.GradientReady(4);
      DeviceReduce call;
      for (int i = 0; i < 8; ++i) call.sources[i] = busy;
      call.merges[7] = 7;
      call.sources_count = 8;
      call.destination = busy;
      call.count = kFloats;
      for (int i = 0; i < kLaunches; ++i) {
        if (kernels_->Reduce(call, {0, pass.stream()}) != kDeviceKernelsOk) return absl::InternalError("launch");
      }
      watched.AwaitDone(1);
      bool done = true;
      if (cuda_->StreamDone(pass.stream(), &done) != kCudaOk) return absl::InternalError("query");
      beside = !done;
      return Loss{0, 1};
    });
    ASSERT_TRUE(step.ok()) << step.status();
    EXPECT_TRUE(beside) << "the all-reduce ended only after " << kLaunches << " kernels behind it: not beside them";
  });
}

TEST_F(GpuTraining, SaysHowFastAStepIs) {
  RunRanks(1, [&](Communicator& communicator) {
    ASSERT_EQ(cuda_->SetDevice(0), kCudaOk);
    const std::vector<ParameterSpec> parameters = {{"large", {1 << 26}, 0.1f}};
    for (const bool gpu : {true, false}) {
      TrainerOptions options = ToyOptions();
      options.shards = 1;
      auto trainer = gpu ? Create(communicator, parameters, options) : Trainer::Create(communicator, parameters, options);
      ASSERT_TRUE(trainer.ok()) << trainer.status();
      const auto nothing = [](Pass&) -> absl::StatusOr<Loss> { return Loss{0, 1}; };
      ASSERT_TRUE((*trainer)->Step(nothing).ok());
      const absl::Time begin = absl::Now();
      for (int i = 0; i < 3; ++i) ASSERT_TRUE((*trainer)->Step(nothing).ok());
      std::printf("%s: a step of AdamW with %d parameters and an empty pass takes %s\n",
                  gpu ? "GPU, gradients through the host" : "host", 1 << 26,
                  absl::FormatDuration((absl::Now() - begin) / 3).c_str());
    }
  });
}

}  // namespace
}  // namespace muster::test
