// Training in a GPU's memory, here FakeCuda's, is training on the host: the same bits, the same transaction, the same checkpoints.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/mutex.h"
#include "runtime/training/host_place.h"
#include "tests/property/training/device_toy.h"
#include "tests/property/training/toy.h"
#include "tests/property/training/watched.h"
#include "tests/support/fake_cuda.h"
#include "tests/support/fake_kernels.h"

namespace muster::test {
namespace {

using testing::HasSubstr;

absl::StatusOr<ToyResult> TrainOnDevice(FakeCuda& cuda, Communicator& communicator, const TrainerOptions& options, int steps) {
  FakeKernels kernels(cuda);
  auto trainer = CreateOn(cuda, kernels, communicator, options);
  if (!trainer.ok()) return trainer.status();
  return TrainToy(**trainer, steps, DevicePass(cuda));
}

ToyResult TrainAllOnDevice(Ranks kind, int world_size, const TrainerOptions& options, int steps) {
  FakeCuda cuda;
  Mutex mutex;
  std::vector<ToyResult> results;
  RunOn(kind, world_size, [&](Communicator& communicator) {
    auto result = TrainOnDevice(cuda, communicator, options, steps);
    MutexLock lock(mutex);
    EXPECT_TRUE(result.ok()) << result.status();
    if (result.ok()) results.push_back(*result);
  });
  EXPECT_EQ(static_cast<int>(results.size()), world_size);
  for (const ToyResult& result : results) EXPECT_EQ(result, results[0]) << "ranks differ";
  EXPECT_EQ(cuda.allocations(), 0) << "device memory is left";
  EXPECT_EQ(cuda.streams(), 0);
  return results.empty() ? ToyResult{} : results[0];
}

class OnDevice : public testing::TestWithParam<Ranks> {};
INSTANTIATE_TEST_SUITE_P(Both, OnDevice, testing::Values(Ranks::kThreadWorld, Ranks::kNative),
                         [](const auto& info) { return info.param == Ranks::kNative ? "Native" : "PlainLoops"; });

TEST_P(OnDevice, HasTheBitsOfTheHostAtEveryWorldSize) {
  for (const OptimizerKind kind : {OptimizerKind::kAdamW, OptimizerKind::kSgd}) {
    TrainerOptions options = ToyOptions();
    options.optimizer.kind = kind;
    options.accumulate = kind == OptimizerKind::kSgd ? 3 : 1;
    options.bucket_bytes = 200;
    const ToyResult host = TrainOn(GetParam(), 1, options, 4);
    for (const int world_size : {1, 2, 3, 5, 8}) {
      EXPECT_EQ(TrainAllOnDevice(GetParam(), world_size, options, 4), host) << world_size << " ranks";
    }
  }
}

// What the host is given to read are copies, and each is of the last step.
TEST(DeviceTrainer, ShowsTheHostItsValues) {
  FakeCuda cuda;
  FakeKernels kernels(cuda);
  ThreadWorld world(1);
  auto trainer = CreateOn(cuda, kernels, world.communicator(0), ToyOptions());
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  auto host = Trainer::Create(world.communicator(0), ToyParameters(), ToyOptions());
  ASSERT_TRUE(host.ok());
  EXPECT_EQ((*host)->stream(), nullptr);
  EXPECT_NE((*trainer)->stream(), nullptr);
  (*trainer)->initial_value(2)[0] = 40;
  (*host)->initial_value(2)[0] = 40;
  for (int step = 0; step < 3; ++step) {
    for (int i = 0; i < (*host)->parameters(); ++i) {
      const auto there = (*trainer)->value(i), here = (*host)->value(i);
      EXPECT_TRUE(std::ranges::equal(there, here)) << "parameter " << i << " in step " << step;
      MemoryKind kind;
      int device;
      ASSERT_EQ(cuda.KindOf((*trainer)->device_value(i).data(), &kind, &device), kCudaOk);
      EXPECT_EQ(kind, MemoryKind::kDevice);
      EXPECT_EQ((*host)->device_value(i).data(), here.data());
    }
    ASSERT_TRUE((*trainer)->Step(DevicePass(cuda)).ok());
    ASSERT_TRUE((*host)->Step(ToyPass).ok());
  }
}

// The kernel of the next parameter waits until the first bucket's all-reduce is done: only if it runs beside the backward pass does
// this end.
TEST(DeviceTrainer, ReducesWhileLaterGradientsAreComputed) {
  FakeCuda cuda;
  RunRanks(2, [&](Communicator& inner) {
    FakeKernels kernels(cuda);
    WatchedCommunicator watched(inner);
    TrainerOptions options = ToyOptions();
    options.shards = 2;
    options.bucket_bytes = 4;  // a bucket for each parameter
    auto trainer = CreateOn(cuda, kernels, watched, options);
    ASSERT_TRUE(trainer.ok()) << trainer.status();
    const int last = static_cast<int>(ToyParameters().size()) - 1;
    const auto step = (*trainer)->Step(DevicePass(cuda, [&](int parameter, CudaStream stream) {
      if (parameter == last) return;
      const size_t before = static_cast<size_t>(last - parameter);
      cuda.Enqueue(stream, [&watched, before] { watched.AwaitDone(before); });
    }));
    ASSERT_TRUE(step.ok()) << step.status();
    EXPECT_EQ(watched.started(), static_cast<size_t>(last) + 1);
  });
}

// Not the other way round: a gradient that is still being made is not reduced.
TEST(DeviceTrainer, WaitsForAGradientOnTheStream) {
  FakeCuda cuda;
  FakeKernels kernels(cuda);
  ThreadWorld world(1);
  WatchedCommunicator watched(world.communicator(0));
  TrainerOptions options = ToyOptions();
  options.shards = 1;
  options.bucket_bytes = 4;
  auto trainer = CreateOn(cuda, kernels, watched, options);
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  std::vector<size_t> started_when_made;
  const auto step = (*trainer)->Step(DevicePass(
      cuda, [&](int, CudaStream stream) { cuda.Enqueue(stream, [&] { started_when_made.push_back(watched.started()); }); }));
  ASSERT_TRUE(step.ok()) << step.status();
  // When the kernel of the n-th parameter has run, at most the n-1 before it can have been started.
  ASSERT_EQ(started_when_made.size(), ToyParameters().size());
  for (size_t i = 0; i < started_when_made.size(); ++i) EXPECT_LE(started_when_made[i], i);
}

struct Seen {
  std::string weights, samples;
  int64_t step = 0, cursor = 0;
  friend bool operator==(const Seen&, const Seen&) = default;
};
Seen Look(const Trainer& trainer) {
  return {trainer.ParametersSha256(), trainer.SamplesSha256(), trainer.step(), trainer.cursor()};
}

// Any call to the GPU may fail once; the step fails with it, the state stays, and the same step succeeds afterwards.
TEST(DeviceTrainer, AFailedCallLeavesTheStateAsItWas) {
  const ToyResult host = TrainOn(Ranks::kThreadWorld, 1, ToyOptions(), 3);
  for (const std::string method : {"Zero", "Copy", "Record", "StreamWait", "Synchronize", "Enqueue", "SetDevice"}) {
    int failures = 0;
    for (const int skipped : {0, 1, 3, 6}) {
      std::atomic<bool> armed = false;
      std::atomic<int> countdown = skipped;
      std::atomic<bool> fired = false;
      FakeCudaOptions cuda_options;
      cuda_options.fails = [&](const std::string& call, int) {
        if (!armed || call != method || countdown-- != 0) return kCudaOk;
        fired = true;
        return 700;
      };
      FakeCuda cuda(cuda_options);
      FakeKernels kernels(cuda);
      ThreadWorld world(1);
      auto trainer = CreateOn(cuda, kernels, world.communicator(0), ToyOptions());
      ASSERT_TRUE(trainer.ok()) << trainer.status();
      ASSERT_TRUE((*trainer)->Step(DevicePass(cuda)).ok());
      const Seen before = Look(**trainer);
      armed = true;
      const auto failed = (*trainer)->Step(DevicePass(cuda));
      armed = false;
      if (!fired) continue;  // it is not called so often in a step
      ASSERT_FALSE(failed.ok()) << method << " " << skipped;
      ++failures;
      if (absl::StrContains(failed.status().message(), "in a pass"))
        continue;  // the pass's own: it has aborted the communicator
      EXPECT_THAT(std::string(failed.status().message()), HasSubstr("fake CUDA error 700"));
      EXPECT_EQ(Look(**trainer), before) << method << " " << skipped;
      while ((*trainer)->step() < 3) {
        const auto step = (*trainer)->Step(DevicePass(cuda));
        ASSERT_TRUE(step.ok()) << method << " " << skipped << ": " << step.status();
      }
      EXPECT_EQ((*trainer)->ParametersSha256(), host.weights) << method << " " << skipped;
      EXPECT_EQ((*trainer)->SamplesSha256(), host.samples);
    }
    EXPECT_GT(failures, 0) << method << " is never called in a step";
  }
}

TEST(DeviceTrainer, SaysWhenTheGpuIsTooSmall) {
  FakeCudaOptions cuda_options;
  cuda_options.device_bytes = 1000;
  FakeCuda cuda(cuda_options);
  FakeKernels kernels(cuda);
  ThreadWorld world(1);
  const auto trainer = CreateOn(cuda, kernels, world.communicator(0), ToyOptions());
  EXPECT_TRUE(absl::IsResourceExhausted(trainer.status())) << trainer.status();
  EXPECT_THAT(std::string(trainer.status().message()), HasSubstr("GPU 0 has no room for 2304 bytes"));
  EXPECT_EQ(cuda.allocations(), 0);
}

// Whatever call of one rank's GPU fails while its trainer is made: all ranks hear of it from the same Create, and may try again.
TEST(DeviceTrainer, AGpuThatFailsAtTheStartIsNamedOnAllRanks) {
  for (const std::string method : {"MakeStream", "Allocate", "Zero", "MakeEvent", "Synchronize"}) {
    for (const int skipped : {0, 1, 3}) {
      std::atomic<bool> armed = true;
      std::atomic<int> countdown = skipped;
      std::atomic<int> failed = 0;
      FakeCudaOptions cuda_options;
      cuda_options.devices = 3;
      cuda_options.fails = [&](const std::string& call, int device) {
        return armed && device == 1 && call == method && countdown-- == 0 ? 700 : kCudaOk;
      };
      FakeCuda cuda(cuda_options);
      FakeKernels kernels(cuda);
      RunRanks(3, [&](Communicator& communicator) {
        auto trainer = CreateOn(cuda, kernels, communicator, ToyOptions(), communicator.rank());
        if (!trainer.ok()) {
          ++failed;
          EXPECT_THAT(std::string(trainer.status().message()), HasSubstr("on GPU 1: fake CUDA error 700"));
          EXPECT_EQ(absl::StartsWith(trainer.status().message(), "rank 1: "), communicator.rank() != 1) << trainer.status();
        }
        ASSERT_EQ(communicator.Barrier(), absl::OkStatus());
        armed = false;
        trainer = CreateOn(cuda, kernels, communicator, ToyOptions(), communicator.rank());
        EXPECT_TRUE(trainer.ok()) << trainer.status();
      });
      EXPECT_TRUE(failed == 3 || (failed == 0 && countdown >= 0)) << method << " after " << skipped << ": " << failed;
    }
  }
}

// The same of a checkpoint that is loaded.
TEST(DeviceTrainer, AGpuThatFailsWhileACheckpointIsLoadedIsNamedOnAllRanks) {
  const std::string folder = absl::StrCat(testing::TempDir(), "/muster_device_resume_", getpid());
  std::filesystem::remove_all(folder);
  TrainerOptions options = ToyOptions();
  options.checkpoint.folder = folder;
  options.checkpoint.every_steps = 1;
  FakeCuda whole;
  RunRanks(3, [&](Communicator& communicator) {
    const auto result = TrainOnDevice(whole, communicator, options, 2);
    ASSERT_TRUE(result.ok()) << result.status();
  });
  options.checkpoint.resume = true;
  std::atomic<bool> loading = false;
  std::atomic<int> failed = 0;
  FakeCudaOptions cuda_options;
  cuda_options.devices = 3;
  cuda_options.fails = [&](const std::string& call, int device) { return device == 1 && call == "Copy" && loading ? 700 : kCudaOk; };
  FakeCuda cuda(cuda_options);
  FakeKernels kernels(cuda);
  RunRanks(3, [&](Communicator& communicator) {
    loading = true;
    auto trainer = CreateOn(cuda, kernels, communicator, options, communicator.rank());
    if (!trainer.ok()) ++failed;
    EXPECT_THAT(std::string(trainer.status().message()), HasSubstr("on GPU 1: fake CUDA error 700"));
    EXPECT_EQ(absl::StartsWith(trainer.status().message(), "rank 1: "), communicator.rank() != 1) << trainer.status();
    ASSERT_EQ(communicator.Barrier(), absl::OkStatus());
    loading = false;
    ASSERT_EQ(communicator.Barrier(), absl::OkStatus());
    trainer = CreateOn(cuda, kernels, communicator, options, communicator.rank());
    ASSERT_TRUE(trainer.ok()) << trainer.status();
    EXPECT_EQ((*trainer)->step(), 2);
  });
  EXPECT_EQ(failed, 3);
  std::filesystem::remove_all(folder);
}

std::map<std::string, std::string> FilesIn(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file() || entry.path().extension() != ".safetensors") continue;
    std::ifstream file(entry.path(), std::ios::binary);
    // The name begins with what differs between two saves.
    const std::string name = entry.path().filename().string();
    files[entry.path().parent_path().filename().string() + name.substr(name.rfind('-'))] = {
        std::istreambuf_iterator<char>(file), {}};
  }
  return files;
}

TEST(DeviceTrainer, CheckpointsAreTheHostsAndLoadOnEither) {
  const ToyResult whole = TrainOn(Ranks::kThreadWorld, 1, ToyOptions(), 7);
  const std::string top = absl::StrCat(testing::TempDir(), "/muster_device_test_", getpid());
  for (const int world_size : {1, 3}) {
    for (const bool device_first : {false, true}) {
      std::filesystem::remove_all(top);
      FakeCuda cuda;
      const auto train = [&](const std::string& folder, bool on_device, int steps, bool resume, ToyResult* out) {
        RunOn(Ranks::kNative, world_size, [&](Communicator& communicator) {
          TrainerOptions options = ToyOptions();
          options.checkpoint.folder = top + "/" + folder;
          options.checkpoint.every_steps = 2;
          options.checkpoint.resume = resume;
          const auto result =
              on_device ? TrainOnDevice(cuda, communicator, options, steps) : TrainToy(communicator, options, steps);
          ASSERT_TRUE(result.ok()) << result.status();
          if (communicator.rank() == 0) *out = *result;
        });
      };
      ToyResult first, other, resumed;
      train("one", device_first, 4, false, &first);
      train("other", !device_first, 4, false, &other);
      EXPECT_EQ(FilesIn(top + "/one"), FilesIn(top + "/other"));
      EXPECT_FALSE(FilesIn(top + "/one").empty());
      train("one", !device_first, 7, true, &resumed);
      EXPECT_EQ(resumed.weights, whole.weights);
      EXPECT_EQ(resumed.samples, whole.samples);
    }
  }
  std::filesystem::remove_all(top);
}

// A save reads the state on a thread of its own, while steps go on and the host looks at values.
TEST(DeviceTrainer, SavesWhileItTrains) {
  const std::string folder = absl::StrCat(testing::TempDir(), "/muster_device_saves_", getpid());
  std::filesystem::remove_all(folder);
  FakeCuda cuda;
  FakeKernels kernels(cuda);
  ThreadWorld world(1);
  TrainerOptions options = ToyOptions();
  options.checkpoint.folder = folder;
  options.checkpoint.every_steps = 1;
  options.checkpoint.keep = 20;
  const ToyResult host = TrainOn(Ranks::kThreadWorld, 1, ToyOptions(), 12);
  {
    auto trainer = CreateOn(cuda, kernels, world.communicator(0), options);
    ASSERT_TRUE(trainer.ok()) << trainer.status();
    while ((*trainer)->step() < 12) {
      ASSERT_TRUE((*trainer)->Step(DevicePass(cuda)).ok());
      EXPECT_EQ((*trainer)->value(0).size(), 33u);
    }
    ASSERT_EQ((*trainer)->Finish(), absl::OkStatus());
    EXPECT_EQ((*trainer)->ParametersSha256(), host.weights);
  }
  options.checkpoint.resume = true;
  options.checkpoint.every_steps = 0;
  auto resumed = Trainer::Create(world.communicator(0), ToyParameters(), options);
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  EXPECT_EQ((*resumed)->step(), 12);
  EXPECT_EQ((*resumed)->ParametersSha256(), host.weights);
  std::filesystem::remove_all(folder);
}

TEST(DeviceTrainer, RanksAgreeOnTheDevice) {
  RunRanks(2, [](Communicator& communicator) {
    TrainerOptions options = ToyOptions();
    options.device = communicator.rank() == 1 ? Device::kCuda : Device::kHost;
    const auto trainer = CreateTrainerAt(std::make_unique<HostPlace>(communicator), communicator, ToyParameters(), options);
    EXPECT_EQ(trainer.status().message(), "ranks disagree on device: 1 on rank 1, 0 on rank 0");
  });
}

// This machine may have a GPU; where CUDA is forbidden to see one there is none.
TEST(CudaTrainer, SaysWhatIsMissing) {
  ASSERT_EQ(setenv("CUDA_VISIBLE_DEVICES", "", 1), 0);
  ThreadWorld world(1);
  TrainerOptions options = ToyOptions();
  options.device = Device::kCuda;
  const auto trainer = Trainer::Create(world.communicator(0), ToyParameters(), options);
  EXPECT_TRUE(absl::IsFailedPrecondition(trainer.status())) << trainer.status();
  EXPECT_THAT(std::string(trainer.status().message()),
              testing::AnyOf(HasSubstr("no GPU can be used: "), HasSubstr("the CUDA runtime is not installed")));
}

}  // namespace
}  // namespace muster::test
