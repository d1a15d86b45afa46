// A run that is saved at one world size and resumed at another is the run that was never disturbed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/property/training/toy.h"

namespace muster::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class Checkpointed : public testing::TestWithParam<Ranks> {
 protected:
  Checkpointed() {
    folder_ = fs::path(testing::TempDir()) /
              absl::StrCat("muster-checkpoints-", ::getpid(), "-", testing::UnitTest::GetInstance()->random_seed());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~Checkpointed() override { fs::remove_all(folder_); }

  TrainerOptions Saving(const fs::path& folder, int64_t every = 3) const {
    TrainerOptions options = ToyOptions();
    options.checkpoint = {folder.string(), every, /*keep=*/100, /*resume=*/false};
    return options;
  }
  TrainerOptions Resuming(const fs::path& folder) const {
    TrainerOptions options = Saving(folder, /*every=*/0);
    options.checkpoint.resume = true;
    return options;
  }
  fs::path New(int number) const { return folder_ / absl::StrCat("run", number); }

  // By name: what is in step-N's data files. `anonymous`: without what the name says of the save, only the file's number.
  static std::map<std::string, std::string> DataFiles(const fs::path& step, bool anonymous = false) {
    std::map<std::string, std::string> files;
    for (const fs::directory_entry& entry : fs::directory_iterator(step)) {
      if (entry.path().extension() != ".safetensors") continue;
      std::ifstream file(entry.path(), std::ios::binary);
      const std::string name = entry.path().filename().string();
      files[anonymous ? name.substr(name.rfind('-')) : name] = {std::istreambuf_iterator<char>(file), {}};
    }
    return files;
  }

  static void FlipBit(const fs::path& path, int64_t from_end) {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekg(-from_end, std::ios::end);
    const int byte = file.get();
    file.seekp(-from_end, std::ios::end);
    file.put(static_cast<char>(byte ^ 0x10));
  }

  fs::path folder_;
};
INSTANTIATE_TEST_SUITE_P(Kinds, Checkpointed, testing::Values(Ranks::kThreadWorld, Ranks::kNative));

TEST_P(Checkpointed, ResumesAtAnyWorldSizeWithTheSameBits) {
  ToyResult whole = TrainOn(GetParam(), 2, ToyOptions(), 10);
  whole.losses.clear();
  std::map<std::string, std::string> first_files;
  for (const int saved : {1, 2, 4, 8}) {
    TrainOn(GetParam(), saved, Saving(New(saved)), 7);
    const auto files = DataFiles(New(saved) / "step-6", /*anonymous=*/true);
    ASSERT_FALSE(files.empty());
    if (saved == 1) first_files = files;
    EXPECT_TRUE(files == first_files) << "the files' bytes depend on the world size " << saved;
    for (const int resumed : {1, 2, 3, 4, 8}) {
      ToyResult result = TrainOn(GetParam(), resumed, Resuming(New(saved)), 10);
      EXPECT_EQ(result.losses.size(), 4u) << "steps 7 to 10 are done again";
      result.losses.clear();
      EXPECT_EQ(result, whole) << "saved on " << saved << " ranks, resumed on " << resumed;
    }
  }
}

// Saving reads one state block while training goes on and soon writes to it again.
TEST_P(Checkpointed, SavesEveryStepWhileTraining) {
  const ToyResult plain = TrainOn(GetParam(), 3, ToyOptions(), 9);
  EXPECT_EQ(TrainOn(GetParam(), 3, Saving(New(1), /*every=*/1), 9), plain);
  ToyResult whole = TrainOn(GetParam(), 1, ToyOptions(), 12);
  whole.losses.clear();
  for (int step = 9; step >= 1; --step) {
    ToyResult result = TrainOn(GetParam(), 2, Resuming(New(1)), 12);
    EXPECT_EQ(result.losses.size(), 12u - static_cast<size_t>(step));
    result.losses.clear();
    EXPECT_EQ(result, whole) << "from step " << step;
    fs::remove_all(New(1) / absl::StrCat("step-", step));
  }
}

TEST_P(Checkpointed, PassesOverADamagedOneAndSaysSo) {
  ToyResult whole = TrainOn(GetParam(), 1, ToyOptions(), 8);
  TrainOn(GetParam(), 2, Saving(New(1)), 7);
  for (const auto& [name, bytes] : DataFiles(New(1) / "step-6")) FlipBit(New(1) / "step-6" / name, 5);
  std::mutex mutex;
  std::vector<std::string> damaged;
  RunOn(GetParam(), 2, [&](Communicator& communicator) {
    auto trainer = Trainer::Create(communicator, ToyParameters(), Resuming(New(1)));
    ASSERT_TRUE(trainer.ok()) << trainer.status();
    EXPECT_EQ((*trainer)->resumed_step(), 3);
    while ((*trainer)->step() < 8) ASSERT_TRUE((*trainer)->Step(ToyPass).ok());
    EXPECT_EQ((*trainer)->ParametersSha256(), whole.weights);
    const std::lock_guard<std::mutex> lock(mutex);
    damaged.insert(damaged.end(), (*trainer)->damaged_checkpoints().begin(), (*trainer)->damaged_checkpoints().end());
  });
  ASSERT_EQ(damaged.size(), 1u);
  EXPECT_THAT(damaged[0], HasSubstr("step-6"));
  EXPECT_THAT(damaged[0], HasSubstr(".safetensors"));
  for (const auto& [name, bytes] : DataFiles(New(1) / "step-3")) FlipBit(New(1) / "step-3" / name, 5);
  RunOn(GetParam(), 2, [&](Communicator& communicator) {
    const absl::Status status = Trainer::Create(communicator, ToyParameters(), Resuming(New(1))).status();
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("step-6"));
  });
}

TEST_P(Checkpointed, ADamagedOneIsNotTakenForTheOneThatWouldBeWrittenInItsPlace) {
  TrainOn(GetParam(), 2, Saving(New(1)), 7);
  for (const auto& [name, bytes] : DataFiles(New(1) / "step-6")) FlipBit(New(1) / "step-6" / name, 5);
  TrainerOptions options = Saving(New(1));
  options.checkpoint.resume = true;
  RunOn(GetParam(), 2, [&](Communicator& communicator) {
    auto trainer = Trainer::Create(communicator, ToyParameters(), options);
    ASSERT_TRUE(trainer.ok()) << trainer.status();
    std::vector<int64_t> newest;
    while ((*trainer)->step() < 10) {
      ASSERT_TRUE((*trainer)->Step(ToyPass).ok());
      newest.push_back((*trainer)->checkpoint_step());
    }
    EXPECT_THAT(newest, testing::Each(testing::AnyOf(3, 9)));
    ASSERT_TRUE((*trainer)->Finish().ok());
    EXPECT_EQ((*trainer)->checkpoint_step(), 9);
  });
}

TEST_P(Checkpointed, AnotherRunsFolderIsRefused) {
  TrainOn(GetParam(), 2, Saving(New(1)), 4);
  const auto fails = [&](const TrainerOptions& options, const std::vector<ParameterSpec>& parameters, const char* message) {
    RunOn(GetParam(), 2, [&](Communicator& communicator) {
      const absl::Status status = Trainer::Create(communicator, parameters, options).status();
      EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr(message));
    });
  };
  fails(Saving(New(1)), ToyParameters(), "up to step 3; resume");
  TrainerOptions options = Resuming(New(1));
  options.batch = 62;
  fails(options, ToyParameters(), "batch is 61 there and 62 here");
  std::vector<ParameterSpec> parameters = ToyParameters();
  parameters[1].shape = {5, 8};
  fails(Resuming(New(1)), parameters, "the size of b is 140 bytes there and 160 bytes here");
  parameters = ToyParameters();
  parameters[2].name = "other";
  fails(Resuming(New(1)), parameters, "the name of tensor 2 is c there and other here");
}

TEST_P(Checkpointed, WhatCannotBeWrittenFailsTheStepOnAllRanksAndTrainingMayGoOn) {
  { std::ofstream in_the_way(New(1)); }
  const ToyResult plain = TrainOn(GetParam(), 2, ToyOptions(), 5);
  RunOn(GetParam(), 2, [&](Communicator& communicator) {
    auto trainer = Trainer::Create(communicator, ToyParameters(), Saving(New(2), /*every=*/2));
    ASSERT_TRUE(trainer.ok()) << trainer.status();
    ASSERT_TRUE((*trainer)->Step(ToyPass).ok());
    if (communicator.rank() == 0) fs::rename(New(1), New(2));
    ASSERT_TRUE(communicator.Barrier().ok());
    const absl::Status status = (*trainer)->Step(ToyPass).status();
    EXPECT_FALSE(status.ok());
    EXPECT_EQ((*trainer)->checkpoint_failure(), status);
    EXPECT_THAT(std::string(status.message()), HasSubstr(New(2).string()));
    EXPECT_EQ((*trainer)->step(), 2);
    EXPECT_EQ((*trainer)->checkpoint_step(), -1);
    ASSERT_TRUE(communicator.Barrier().ok());
    if (communicator.rank() == 0) fs::remove(New(2));
    ASSERT_TRUE(communicator.Barrier().ok());
    while ((*trainer)->step() < 5) ASSERT_TRUE((*trainer)->Step(ToyPass).ok());
    ASSERT_TRUE((*trainer)->Finish().ok());
    EXPECT_TRUE((*trainer)->checkpoint_failure().ok());
    EXPECT_EQ((*trainer)->checkpoint_step(), 4);
    EXPECT_EQ((*trainer)->ParametersSha256(), plain.weights);
  });
}

// Where a rank's way to the folder is barred (another node's disk), nobody trains up to the first save to learn of it.
TEST_P(Checkpointed, AFolderThatOneRankCannotWriteToIsTheSameErrorOnAllRanksAtOnce) {
  { std::ofstream in_the_way(New(9)); }
  for (const int barred : {0, 2}) {
    std::vector<absl::Status> statuses(3);
    RunOn(GetParam(), 3, [&](Communicator& communicator) {
      const bool mine = communicator.rank() == barred;
      const TrainerOptions options = Saving(mine ? New(9) / "below" / "it" : New(1));
      const absl::Status status = Trainer::Create(communicator, ToyParameters(), options).status();
      statuses[static_cast<size_t>(communicator.rank())] = absl::Status(status.code(), status.message());
      EXPECT_TRUE(communicator.Barrier().ok()) << "the communicator stays usable";
    });
    EXPECT_TRUE(absl::IsResourceExhausted(statuses[0])) << statuses[0];
    EXPECT_THAT(std::string(statuses[0].message()), testing::AllOf(testing::StartsWith(absl::StrCat("rank ", barred, ": ")),
                                                                   HasSubstr("below/it"), HasSubstr("Not a directory")));
    EXPECT_EQ(statuses[1], statuses[0]);
    EXPECT_EQ(statuses[2], statuses[0]);
  }
  EXPECT_FALSE(fs::exists(New(1))) << "nothing was made";
}

// The program's signal handlers may rely on the program's own threads.
thread_local bool is_ours = false;
std::atomic<int> handled{0}, handled_elsewhere{0};

TEST_P(Checkpointed, SignalsDoNotReachTheThreadThatWrites) {
  handled = handled_elsewhere = 0;
  struct sigaction action = {}, before = {};
  action.sa_handler = [](int) { ++(is_ours ? handled : handled_elsewhere); };
  action.sa_flags = SA_RESTART;
  sigset_t signal;
  sigemptyset(&signal);
  sigaddset(&signal, SIGUSR1);
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  pthread_sigmask(SIG_BLOCK, &signal, nullptr);  // here and in every thread that is made here, but for those of the ranks
  RunOn(GetParam(), 2, [&](Communicator& communicator) {
    is_ours = true;
    pthread_sigmask(SIG_UNBLOCK, &signal, nullptr);
    auto trainer = Trainer::Create(communicator, ToyParameters(), Saving(New(1), /*every=*/1));
    ASSERT_TRUE(trainer.ok()) << trainer.status();
    while ((*trainer)->step() < 20) {
      ASSERT_TRUE((*trainer)->Step(ToyPass).ok());
      for (int i = 0; i < 50; ++i) ::kill(::getpid(), SIGUSR1);  // while a save is under way
    }
    ASSERT_TRUE((*trainer)->Finish().ok());
    pthread_sigmask(SIG_BLOCK, &signal, nullptr);
  });
  action.sa_handler = SIG_IGN;  // drops one that is still pending
  ::sigaction(SIGUSR1, &action, nullptr);
  pthread_sigmask(SIG_UNBLOCK, &signal, nullptr);
  ::sigaction(SIGUSR1, &before, nullptr);
  EXPECT_GT(handled, 0);
  EXPECT_EQ(handled_elsewhere, 0);
}

TEST_P(Checkpointed, ANewFolderHasNothingToResumeFrom) {
  EXPECT_EQ(TrainOn(GetParam(), 2, Resuming(New(1)), 3), TrainOn(GetParam(), 1, ToyOptions(), 3));
}

TEST_P(Checkpointed, OnlyTheNewestStay) {
  TrainerOptions options = Saving(New(1), /*every=*/1);
  options.checkpoint.keep = 2;
  TrainOn(GetParam(), 2, options, 6);
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(New(1))) names.push_back(entry.path().filename().string());
  EXPECT_THAT(names, testing::UnorderedElementsAre("step-5", "step-6"));
}

}  // namespace
}  // namespace muster::test
