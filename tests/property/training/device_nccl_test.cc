// Training on GPUs over NCCL, both in memory: buckets are reduced where they are, beside the backward pass.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "muster/device.h"
#include "runtime/base/mutex.h"
#include "tests/property/training/device_toy.h"
#include "tests/support/fake_nccl.h"

namespace muster::test {
namespace {

using Weights = std::vector<std::vector<float>>;

struct Trained {
  ToyResult result;
  Weights weights;
};

Weights WeightsOf(const Trainer& trainer) {
  Weights weights;
  for (int i = 0; i < trainer.parameters(); ++i) weights.emplace_back(trainer.value(i).begin(), trainer.value(i).end());
  return weights;
}

TrainerOptions PlainOptions() {
  TrainerOptions options = ToyOptions();
  // The update is linear in the gradients: rounding that differs stays small.
  options.optimizer.kind = OptimizerKind::kSgd;
  options.optimizer.learning_rate = 0.001;
  options.bucket_bytes = 200;
  return options;
}

// On all ranks of `world_size`; they must have the same result.
Trained TrainOverNccl(int world_size, const TrainerOptions& options, bool with_kernels) {
  FakeCuda cuda({.devices = world_size});
  FakeKernels kernels(cuda);
  FakeNccl nccl(cuda);
  FakeNode node({.ranks = world_size});
  Mutex mutex;
  std::vector<Trained> all;
  RunNcclRanks(
      cuda, nccl, node,
      [&](Communicator& communicator) {
        ASSERT_EQ(cuda.SetDevice(communicator.capabilities().device->device()), kCudaOk);
        auto trainer = CreateOn(cuda, kernels, communicator, options, communicator.capabilities().device->device());
        ASSERT_TRUE(trainer.ok()) << trainer.status();
        const auto result = TrainToy(**trainer, 4, DevicePass(cuda));
        ASSERT_TRUE(result.ok()) << result.status();
        const Trained trained{*result, WeightsOf(**trainer)};
        MutexLock lock(mutex);
        all.push_back(trained);
      },
      [&](int, NcclOptions& nccl_options) { nccl_options.kernels = with_kernels ? &kernels : nullptr; });
  EXPECT_EQ(static_cast<int>(all.size()), world_size);
  for (const Trained& one : all) EXPECT_EQ(one.result, all[0].result) << "ranks differ";
  return all.empty() ? Trained{} : all[0];
}

TEST(NcclTrainer, LearnsWhatTheHostDoes) {
  ThreadWorld world(1);
  auto host = Trainer::Create(world.communicator(0), ToyParameters(), PlainOptions());
  ASSERT_TRUE(host.ok());
  const auto expected = TrainToy(**host, 4, ToyPass);
  ASSERT_TRUE(expected.ok());
  const Weights weights = WeightsOf(**host);
  for (const int world_size : {1, 2, 3, 5}) {
    for (const bool with_kernels : {true, false}) {
      const Trained trained = TrainOverNccl(world_size, PlainOptions(), with_kernels);
      EXPECT_EQ(trained.result.samples, expected->samples);
      EXPECT_EQ(trained.result.cursor, expected->cursor);
      ASSERT_EQ(trained.weights.size(), weights.size());
      for (size_t i = 0; i < weights.size(); ++i) {
        for (size_t j = 0; j < weights[i].size(); ++j) {
          ASSERT_NEAR(trained.weights[i][j], weights[i][j], 1e-5)
              << world_size << " ranks, parameter " << i << " element " << j;
        }
      }
      EXPECT_EQ(TrainOverNccl(world_size, PlainOptions(), with_kernels).result, trained.result) << "two runs differ";
    }
  }
}

// The kernel of the next parameter waits until NCCL has come to the bucket before it.
TEST(NcclTrainer, ReducesWhileLaterGradientsAreComputed) {
  constexpr int kRanks = 2;
  FakeCuda cuda({.devices = kRanks});
  FakeKernels kernels(cuda);
  Mutex mutex;
  CondVar changed;
  std::map<int, int64_t> begun;  // collectives by rank
  FakeNcclOptions nccl_options;
  nccl_options.runs = [&](int rank, int64_t) {
    MutexLock lock(mutex);
    ++begun[rank];
    changed.SignalAll();
    return kNcclOk;
  };
  FakeNccl nccl(cuda, nccl_options);
  FakeNode node({.ranks = kRanks});
  RunNcclRanks(
      cuda, nccl, node,
      [&](Communicator& communicator) {
        TrainerOptions options = ToyOptions();
        options.shards = kRanks;
        options.bucket_bytes = 4;  // a bucket for each parameter
        const int rank = communicator.rank();
        auto trainer = CreateOn(cuda, kernels, communicator, options, rank);
        ASSERT_TRUE(trainer.ok()) << trainer.status();
        const int last = static_cast<int>(ToyParameters().size()) - 1;
        int64_t before = -1;
        const auto step = (*trainer)->Step(DevicePass(cuda, [&](int parameter, CudaStream stream) {
          if (parameter == last) {  // nothing of this step has been reduced
            MutexLock lock(mutex);
            before = begun[rank];
            return;
          }
          cuda.Enqueue(stream, [&, rank, wanted = before + last - parameter] {
            MutexLock lock(mutex);
            while (begun[rank] < wanted) changed.Wait(mutex);
          });
        }));
        ASSERT_TRUE(step.ok()) << step.status();
      },
      [&](int, NcclOptions& options) { options.kernels = &kernels; });
}

// NCCL finds an error while a bucket is under way: the step fails, and nothing of it is applied.
TEST(NcclTrainer, AFailedReductionLeavesTheStateAsItWas) {
  FakeCuda cuda({.devices = 2});
  FakeKernels kernels(cuda);
  std::atomic<bool> armed = false;
  FakeNcclOptions nccl_options;
  nccl_options.runs = [&](int rank, int64_t) { return armed && rank == 1 ? 3 : kNcclOk; };
  FakeNccl nccl(cuda, nccl_options);
  FakeNode node({.ranks = 2});
  std::atomic<int> ready = 0;
  RunNcclRanks(
      cuda, nccl, node,
      [&](Communicator& communicator) {
        auto trainer = CreateOn(cuda, kernels, communicator, ToyOptions(), communicator.rank());
        ASSERT_TRUE(trainer.ok()) << trainer.status();
        ASSERT_TRUE((*trainer)->Step(DevicePass(cuda)).ok());
        ASSERT_EQ(communicator.Barrier(), absl::OkStatus());
        const std::string weights = (*trainer)->ParametersSha256(), samples = (*trainer)->SamplesSha256();
        if (++ready == 2) armed = true;
        while (!armed) std::this_thread::yield();
        const auto step = (*trainer)->Step(DevicePass(cuda));
        EXPECT_FALSE(step.ok());
        EXPECT_EQ((*trainer)->step(), 1);
        EXPECT_EQ((*trainer)->ParametersSha256(), weights);
        EXPECT_EQ((*trainer)->SamplesSha256(), samples);
      },
      [&](int, NcclOptions& options) { options.kernels = &kernels; });
}

}  // namespace
}  // namespace muster::test
