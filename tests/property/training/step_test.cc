// A step is a transaction, it overlaps reduction with the backward pass, and ranks that disagree are told so.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/property/training/toy.h"
#include "tests/property/training/watched.h"

namespace muster::test {
namespace {

using testing::HasSubstr;

struct Snapshot {
  std::string weights, samples;
  int64_t step, cursor;
  std::vector<int64_t> rank_samples;
  friend bool operator==(const Snapshot&, const Snapshot&) = default;
};

Snapshot Look(const Trainer& trainer) {
  return {trainer.ParametersSha256(), trainer.SamplesSha256(), trainer.step(), trainer.cursor(), trainer.rank_samples()};
}

// Each operation of three steps fails once; the step then fails as a whole, and trying again gives what no error would have
// given.
TEST(Transaction, AStepThatFailsAnywhereChangesNothing) {
  TrainerOptions options = ToyOptions();
  options.bucket_bytes = 200;  // several buckets
  ThreadWorld reference_world(1);
  const auto reference = TrainToy(reference_world.communicator(0), options, 3);
  ASSERT_TRUE(reference.ok()) << reference.status();
  int failures = 0;
  for (int64_t failing = 1;; ++failing) {  // operation 0 is the agreement in Create
    std::atomic<bool> failed = false;
    ThreadWorld world(1, {[&](int, int64_t index) {
                        if (index != failing) return absl::OkStatus();
                        failed = true;
                        return absl::UnavailableError("injected");
                      }});
    auto trainer = Trainer::Create(world.communicator(0), ToyParameters(), options);
    ASSERT_TRUE(trainer.ok()) << trainer.status();
    int errors = 0;
    while ((*trainer)->step() < 3) {
      const Snapshot before = Look(**trainer);
      const auto result = (*trainer)->Step(ToyPass);
      if (result.ok()) continue;
      EXPECT_EQ(result.status(), absl::UnavailableError("injected"));
      EXPECT_EQ(Look(**trainer), before);
      ++errors;
    }
    EXPECT_EQ(errors, failed ? 1 : 0);
    EXPECT_EQ((*trainer)->ParametersSha256(), reference->weights) << "after operation " << failing << " failed";
    EXPECT_EQ((*trainer)->SamplesSha256(), reference->samples);
    if (!failed) break;
    ++failures;
  }
  EXPECT_GT(failures, 12);  // a broadcast, a new plan, and in each step several buckets, the loss, the samples
}

TEST(Transaction, ANewCutWithoutMemoryIsMadeAgain) {
  ThreadWorld world(1);
  WatchedCommunicator communicator(world.communicator(0));
  TrainerOptions options = ToyOptions();
  options.bucket_bytes = 200;  // several buckets
  const auto first_parameter_first = [](Pass& pass) -> absl::StatusOr<Loss> {
    for (int parameter = 0; parameter < 5; ++parameter) pass.GradientReady(parameter);
    return Loss{1, 1};
  };
  auto trainer = Trainer::Create(communicator, ToyParameters(), options);
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  ASSERT_TRUE((*trainer)->Step(first_parameter_first).ok());
  communicator.FailNextWindow();
  EXPECT_TRUE(absl::IsResourceExhausted((*trainer)->Step(first_parameter_first).status()));
  EXPECT_EQ((*trainer)->step(), 1);
  EXPECT_TRUE((*trainer)->Step(first_parameter_first).ok());
  EXPECT_EQ((*trainer)->step(), 2);
}

TEST(Transaction, AnErrorInOnePassReachesAllRanksAndChangesNothing) {
  for (const Ranks kind : {Ranks::kThreadWorld, Ranks::kNative}) {
    RunOn(kind, 3, [](Communicator& communicator) {
      auto trainer = Trainer::Create(communicator, ToyParameters(), ToyOptions());
      ASSERT_TRUE(trainer.ok()) << trainer.status();
      ASSERT_TRUE((*trainer)->Step(ToyPass).ok());
      const Snapshot before = Look(**trainer);
      const auto result = (*trainer)->Step([&](Pass& pass) -> absl::StatusOr<Loss> {
        if (pass.shard() == 3) return absl::DataLossError("sample 17 is damaged");
        return ToyPass(pass);
      });
      EXPECT_THAT(std::string(result.status().message()), HasSubstr("sample 17 is damaged"));
      EXPECT_EQ(absl::IsDataLoss(result.status()), communicator.rank() == 1);
      EXPECT_EQ(Look(**trainer), before);
    });
  }
}

// The pass of each rank's last shard does not go on until the first bucket has been reduced over all ranks.
TEST(Overlap, TheFirstBucketIsReducedWhileTheBackwardPassGoesOn) {
  for (const Ranks kind : {Ranks::kThreadWorld, Ranks::kNative}) {
    for (const int world_size : {1, 2, 3, 4, 8}) {
      const std::string path = absl::StrCat(testing::TempDir(), "/muster_overlap_", world_size, ".json");
      TrainerOptions options = ToyOptions();
      options.bucket_bytes = 200;
      options.trace = path;
      RunOn(kind, world_size, [&](Communicator& inner) {
        WatchedCommunicator communicator(inner);
        auto trainer = Trainer::Create(communicator, ToyParameters(), options);
        ASSERT_TRUE(trainer.ok()) << trainer.status();
        const int last_shard = 8 * (inner.rank() + 1) / world_size - 1;
        for (int step = 0; step < 3; ++step) {
          const size_t started = communicator.started();
          auto result = (*trainer)->Step([&](Pass& pass) -> absl::StatusOr<Loss> {
            pass.BackwardBegins();
            for (int parameter = 4; parameter >= 1; --parameter) pass.GradientReady(parameter);
            if (pass.shard() < last_shard) {
              EXPECT_EQ(communicator.started(), started);
              return Loss{1, 1};
            }
            if (communicator.started() == started) return absl::InternalError("no all-reduce has been started");
            const absl::Time deadline = absl::Now() + absl::Seconds(60);
            while (!communicator.IsDone(started)) {
              if (absl::Now() > deadline) return absl::DeadlineExceededError("the first all-reduce waits for the pass");
              std::this_thread::yield();
            }
            return Loss{1, 1};
          });
          ASSERT_TRUE(result.ok()) << result.status();
        }
        ASSERT_EQ((*trainer)->Finish(), absl::OkStatus());
      });
      std::ifstream file(path);
      const nlohmann::json trace = nlohmann::json::parse(file, nullptr, false);
      ASSERT_FALSE(trace.is_discarded()) << path;
      std::map<std::pair<int, int>, double> reduction_begin, backward_end;  // by rank and step
      for (const auto& event : trace["traceEvents"]) {
        if (event["ph"] != "X") continue;
        const std::pair<int, int> key = {event["pid"], event["args"]["step"]};
        const double begin = event["ts"], end = begin + event["dur"].get<double>();
        if (event["cat"] == "backward") backward_end[key] = std::max(backward_end[key], end);
        if (event["cat"] == "all_reduce") {
          const auto [entry, added] = reduction_begin.emplace(key, begin);
          if (!added) entry->second = std::min(entry->second, begin);
        }
      }
      EXPECT_EQ(backward_end.size(), 3u * world_size);
      ASSERT_EQ(reduction_begin.size(), 3u * world_size);
      for (const auto& [key, end] : backward_end) EXPECT_LT(reduction_begin[key], end) << "rank " << key.first;
      std::remove(path.c_str());
    }
  }
}

std::string CreateError(Ranks kind, int world_size, const std::function<void(int rank, TrainerOptions&)>& change,
                        std::vector<ParameterSpec> parameters = ToyParameters()) {
  Mutex mutex;
  std::string message;
  RunOn(kind, world_size, [&](Communicator& communicator) {
    TrainerOptions options = ToyOptions();
    change(communicator.rank(), options);
    const auto trainer = Trainer::Create(communicator, parameters, options);
    EXPECT_EQ(trainer.status().code(), absl::StatusCode::kInvalidArgument) << trainer.status();
    MutexLock lock(mutex);
    message = std::string(trainer.status().message());
  });
  return message;
}

TEST(Create, RefusesMoreRanksThanShards) {
  EXPECT_EQ(CreateError(Ranks::kNative, 3, [](int, TrainerOptions& options) { options.shards = 2; }),
            "3 ranks but only 2 shards: a rank needs a shard of each batch. Start at most 2 ranks, or pass --shards 4");
}

TEST(Create, NamesTheRankThatDisagrees) {
  EXPECT_EQ(CreateError(Ranks::kNative, 4, [](int rank, TrainerOptions& options) { options.batch = rank == 2 ? 32 : 64; }),
            "ranks disagree on batch: 32 on rank 2, 64 on rank 0");
  EXPECT_THAT(CreateError(Ranks::kNative, 2, [](int rank, TrainerOptions& options) { options.optimizer.beta1 += 0.01 * rank; }),
              HasSubstr("ranks disagree on the optimizer's fingerprint"));
}

TEST(Create, RefusesOptionsOutOfRange) {
  const std::pair<std::function<void(TrainerOptions&)>, const char*> cases[] = {
      {[](TrainerOptions& options) { options.samples = 0; }, "samples is 0; it must be in [1, 2^40]"},
      {[](TrainerOptions& options) { options.batch = -1; }, "batch is -1"},
      {[](TrainerOptions& options) { options.shards = 5000; }, "shards is 5000; it must be in [1, 4096]"},
      {[](TrainerOptions& options) { options.accumulate = 0; }, "accumulate is 0"},
      {[](TrainerOptions& options) { options.bucket_bytes = 3; }, "bucket_bytes is 3"},
  };
  for (const auto& [change, expected] : cases) {
    EXPECT_THAT(CreateError(Ranks::kThreadWorld, 1, [&change = change](int, TrainerOptions& options) { change(options); }),
                HasSubstr(expected));
  }
  EXPECT_THAT(CreateError(Ranks::kThreadWorld, 1, [](int, TrainerOptions&) {}, {}), HasSubstr("at least one parameter"));
  EXPECT_THAT(CreateError(Ranks::kThreadWorld, 1, [](int, TrainerOptions&) {}, {{"w", {3, 0}}}),
              HasSubstr("parameter \"w\" is 0"));
}

TEST(Create, NamesATraceFileThatCannotBeWritten) {
  ThreadWorld world(1);
  TrainerOptions options = ToyOptions();
  options.trace = "/nowhere/trace.json";
  const auto trainer = Trainer::Create(world.communicator(0), ToyParameters(), options);
  EXPECT_THAT(std::string(trainer.status().message()), HasSubstr("/nowhere/trace.json"));
}

TEST(InitialValue, OfRankZeroIsGivenToAll) {
  RunOn(Ranks::kNative, 3, [](Communicator& communicator) {
    auto trainer = Trainer::Create(communicator, ToyParameters(), ToyOptions());
    ASSERT_TRUE(trainer.ok()) << trainer.status();
    (*trainer)->initial_value(2)[0] = 40.0f + static_cast<float>(communicator.rank());
    auto result = (*trainer)->Step([](Pass& pass) -> absl::StatusOr<Loss> {
      EXPECT_EQ(pass.value(2)[0], 40.0f);
      return ToyPass(pass);
    });
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_TRUE((*trainer)->initial_value(2).empty());
  });
}

}  // namespace
}  // namespace muster::test
