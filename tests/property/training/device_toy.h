// The toy on a GPU that is FakeCuda's.
#ifndef MUSTER_TESTS_PROPERTY_TRAINING_DEVICE_TOY_H_
#define MUSTER_TESTS_PROPERTY_TRAINING_DEVICE_TOY_H_

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "runtime/training/device_place.h"
#include "runtime/training/trainer_at.h"
#include "tests/property/training/toy.h"
#include "tests/support/fake_cuda.h"
#include "tests/support/fake_kernels.h"

namespace muster::test {

// ToyPass as kernels on the pass's stream. `between` is called after each parameter's kernel was queued and before it is marked.
inline Trainer::PassFunction DevicePass(FakeCuda& cuda, std::function<void(int parameter, CudaStream)> between = nullptr) {
  return [&cuda, between = std::move(between)](Pass& pass) -> absl::StatusOr<Loss> {
    auto loss = std::make_shared<Loss>();
    for (int parameter = static_cast<int>(ToyParameters().size()) - 1; parameter >= 0; --parameter) {
      const std::vector<int64_t> samples(pass.samples().begin(), pass.samples().end());
      const std::span<const float> value = pass.value(parameter);
      const float* const from = cuda.HostView(value.data());
      float* const to = cuda.HostView(pass.gradient(parameter).data());
      const int code = cuda.Enqueue(pass.stream(), [=, count = value.size()] {
        for (const int64_t sample : samples) {
          for (size_t i = 0; i < count; ++i) {
            to[i] += ToyGradient(sample, parameter, static_cast<int64_t>(i), from[i]);
            loss->sum += from[i] * 0.1 + static_cast<double>(sample);
          }
        }
      });
      if (code != kCudaOk) return absl::InternalError("the GPU has failed in a pass");
      if (between) between(parameter, pass.stream());
      pass.GradientReady(parameter);
    }
    loss->weight = 3 * static_cast<int64_t>(pass.samples().size());
    if (cuda.Synchronize(pass.stream()) != kCudaOk) return absl::InternalError("the GPU has failed in a pass");
    return *loss;
  };
}

inline absl::StatusOr<std::unique_ptr<Trainer>> CreateOn(FakeCuda& cuda, FakeKernels& kernels, Communicator& communicator,
                                                         const TrainerOptions& options, int device = 0) {
  auto place = CreateDevicePlace(communicator, std::shared_ptr<CudaApi>(&cuda, [](CudaApi*) {}), kernels, device);
  if (!place.ok()) return place.status();
  return CreateTrainerAt(*std::move(place), communicator, ToyParameters(), options);
}

}  // namespace muster::test

#endif  // MUSTER_TESTS_PROPERTY_TRAINING_DEVICE_TOY_H_
