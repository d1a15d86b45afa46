// Writers of an old generation that stop before any one operation on the files, while later generations save, commit and prune,
// and then go on: every checkpoint verifies at every moment, and none of the newest `keep` is lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <iostream>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/checkpoint/names.h"
#include "tests/support/checkpoint_writer.h"
#include "tests/support/recording_file_system.h"

namespace muster {
namespace {

using testing::ElementsAre;

constexpr char kFolder[] = "/data/run";

uint64_t Seed() {
  const char* const given = getenv("MUSTER_TEST_SEED");
  return given != nullptr ? strtoull(given, nullptr, 10) : 20261121;
}

// Looks at the disk from outside, between operations.
class Watcher {
 public:
  explicit Watcher(size_t keep) : keep_(keep) {}

  // What is wrong; empty: nothing.
  std::string Look(const Disk& disk) {
    if (MetaOf(disk) == seen_) return "";
    seen_ = MetaOf(disk);
    RecordingFileSystem files(disk);
    const auto entries = ListCheckpoints(files, kFolder);
    if (!entries.ok()) return entries.status().ToString();
    std::set<int64_t> there;
    std::map<int64_t, std::string> manifests;
    for (const CheckpointEntry& entry : *entries) {
      if (!entry.committed) continue;
      if (absl::Status status = CheckWhole(files, entry); !status.ok()) return status.ToString();
      const std::string& manifest = manifests[entry.step] = disk.files.at(absl::StrCat(entry.path, "/", kManifestName));
      if (manifests_.contains(entry.step) && manifests_.at(entry.step) != manifest) {
        return absl::StrCat("the manifest of step ", entry.step, " was replaced");
      }
      there.insert(entry.step);
      ever_.insert(entry.step);
    }
    manifests_ = std::move(manifests);
    size_t newest = 0;
    for (auto step = ever_.rbegin(); step != ever_.rend() && newest < keep_; ++step, ++newest) {
      if (!there.contains(*step)) return absl::StrCat("step ", *step, " was committed and is lost");
    }
    return "";
  }
  const std::set<int64_t>& ever() const { return ever_; }

 private:
  // What verifying depends on here, where no data file is written twice.
  static std::string MetaOf(const Disk& disk) {
    std::string meta;
    for (const auto& [path, bytes] : disk.files) {
      absl::StrAppend(&meta, path, " ", bytes.size(), "\n", path.ends_with(kManifestName) ? bytes : "");
    }
    return meta;
  }

  const size_t keep_;
  std::set<int64_t> ever_;
  std::map<int64_t, std::string> manifests_;  // of the last look, by step
  std::string seen_;
};

// What a later save, alone, leaves: `keep` whole checkpoints and nothing that no manifest names.
void ExpectTidy(RecordingFileSystem& files, int64_t step, int keep) {
  ASSERT_EQ(CheckpointWriter(&files, kFolder, 9).SaveAndPrune(step, keep), absl::OkStatus());
  const auto entries = ListCheckpoints(files, kFolder);
  ASSERT_TRUE(entries.ok());
  ASSERT_EQ(entries->size(), static_cast<size_t>(keep));
  int64_t expected_files = 0;
  for (const CheckpointEntry& entry : *entries) {
    EXPECT_TRUE(entry.committed);
    expected_files += entry.files + 1;
  }
  EXPECT_EQ(static_cast<int64_t>(files.disk().files.size()), expected_files);
}

struct Case {
  int keep = 2;
  bool by_link = false;
  std::vector<std::vector<int64_t>> later_steps;  // of three later generations
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const bool by_link : {false, true}) {
    for (const int keep : {1, 2, 3}) {
      if (by_link && keep != 2) continue;
      cases.push_back({keep, by_link, {{30}, {40}, {50}}});
      cases.push_back({keep, by_link, {{40, 50}, {60, 70}, {80}}});
      cases.push_back({keep, by_link, {{30}, {30}, {30}}});
      cases.push_back({keep, by_link, {{21}, {22, 23}, {24}}});  // behind the one that was paused, which is ahead of them
    }
  }
  return cases;
}

// Pauses `zombie` before operation after operation, and lets it go on.
void PauseBeforeEach(const std::function<void(RecordingFileSystem&)>& before,
                     const std::function<void(RecordingFileSystem&, int keep)>& zombie) {
  int pauses = 0;
  for (const Case& test : Cases()) {
    for (int pause = 0;; ++pause) {
      RecordingFileSystem files;
      if (test.by_link) files.RenameByLink();
      Watcher watcher(static_cast<size_t>(test.keep));
      before(files);
      ASSERT_EQ(watcher.Look(files.disk()), "");
      int operation = 0;
      std::string paused_before, fault;
      files.OnEach([&](const std::string& what) {
        if (fault.empty()) fault = watcher.Look(files.disk());
        if (operation++ != pause) return;
        paused_before = what;
        uint64_t generation = 1;
        for (const std::vector<int64_t>& steps : test.later_steps) {
          CheckpointWriter later(&files, kFolder, ++generation);
          for (const int64_t step : steps) {
            const absl::Status status = later.SaveAndPrune(step, test.keep);
            EXPECT_TRUE(status.ok() || absl::IsAlreadyExists(status)) << status;
            if (fault.empty()) fault = watcher.Look(files.disk());
          }
        }
      });
      zombie(files, test.keep);
      files.OnEach(nullptr);
      if (paused_before.empty()) break;  // it has no more operations
      ++pauses;
      if (fault.empty()) fault = watcher.Look(files.disk());
      ASSERT_EQ(fault, "") << "paused before operation " << pause << ", " << paused_before << "; keep " << test.keep
                           << "; later generations save from step " << test.later_steps[0][0] << " on";
      for (const int64_t step : test.later_steps.back()) ASSERT_TRUE(watcher.ever().contains(step));
      ExpectTidy(files, 100, test.keep);
    }
  }
  std::cout << "pauses: " << pauses << "\n";
  EXPECT_GT(pauses, 100);
}

void TwoCheckpoints(RecordingFileSystem& files) {
  CheckpointWriter writer(&files, kFolder, 1);
  ASSERT_TRUE(writer.Save(10).ok());
  ASSERT_TRUE(writer.Save(20).ok());
}

TEST(Zombie, ThatDoesEverythingHarmsNothing) {
  PauseBeforeEach(TwoCheckpoints, [](RecordingFileSystem& files, int keep) {
    static_cast<void>(CheckpointWriter(&files, kFolder, 1).SaveAndPrune(31, keep));
  });
  PauseBeforeEach(TwoCheckpoints, [](RecordingFileSystem& files, int keep) {
    static_cast<void>(CheckpointWriter(&files, kFolder, 1).SaveAndPrune(30, keep));
  });
}

TEST(Zombie, ThatWritesOneFileHarmsNothing) {
  CheckpointContent content = CheckpointWriter::ContentOf(30, 1, 77);
  const std::vector<CheckpointFilePlan> plan = PlanFiles(content, 250);
  PauseBeforeEach(
      [&](RecordingFileSystem& files) {
        TwoCheckpoints(files);
        ASSERT_EQ(StartSave(files, kFolder, content), absl::OkStatus());
      },
      [&](RecordingFileSystem& files, int) {
        for (int index = static_cast<int>(plan.size()); index-- > 0;) {
          std::vector<std::vector<std::byte>> tensors;
          for (size_t i = 0; i < content.tensors.size(); ++i) {
            tensors.push_back(CheckpointWriter::BytesOf(content, static_cast<int>(i)));
          }
          static_cast<void>(WriteCheckpointFile(
              files, kFolder, content, plan, index,
              [&](int tensor) { return std::span<const std::byte>(tensors[static_cast<size_t>(tensor)]); }, nullptr));
        }
      });
}

TEST(Zombie, ThatPrunesHarmsNothing) {
  CheckpointContent committed;
  PauseBeforeEach(
      [&](RecordingFileSystem& files) {
        TwoCheckpoints(files);
        // A loser of an earlier generation, and an unfinished save.
        ASSERT_EQ(StartSave(files, kFolder, CheckpointWriter::ContentOf(25, 0, 5)), absl::OkStatus());
        CheckpointContent loser = CheckpointWriter::ContentOf(30, 0, 6);
        const std::vector<CheckpointFilePlan> plan = PlanFiles(loser, 250);
        CheckpointWriter writer(&files, kFolder, 1);
        committed = *writer.Save(30);
        files.OpenForAppend(absl::StrCat("/data/run/step-30/", ManifestToBeName(SaveOf(loser)))).IgnoreError();
        ASSERT_TRUE(CheckpointWriter::WriteFiles(files, kFolder, loser, plan).ok());
      },
      [&](RecordingFileSystem& files, int keep) { static_cast<void>(PruneCheckpoints(files, kFolder, committed, keep)); });
}

// Several generations at once, of which all but the last are zombies: each operation is one of any of them, by chance.
class Race {
 public:
  Race(uint64_t seed, int keep, bool by_link) : random_(seed), keep_(keep), watcher_(static_cast<size_t>(keep)) {
    if (by_link) files_.RenameByLink();
    files_.OnEach([this](const std::string&) { Wait(); });
  }

  // Returns what went wrong; empty: nothing.
  std::string Run(int generations) {
    for (int i = 0; i < generations; ++i) states_.push_back(State::kIdle);
    std::vector<std::thread> threads;
    for (int i = 0; i < generations; ++i) threads.emplace_back([this, i] { Generation(i); });
    Schedule();
    for (std::thread& thread : threads) thread.join();
    files_.OnEach(nullptr);
    if (fault_.empty()) fault_ = watcher_.Look(files_.disk());
    return fault_;
  }
  RecordingFileSystem& files() { return files_; }
  int64_t newest() const { return watcher_.ever().empty() ? 0 : *watcher_.ever().rbegin(); }

 private:
  enum class State { kIdle, kWaiting, kRunning, kEnded };

  // One thread runs at a time: the one whose turn it is.
  void Generation(int index) {
    current_ = index;
    Wait();  // begins at a moment of the scheduler's choice
    CheckpointWriter writer(&files_, kFolder, static_cast<uint64_t>(index + 1));
    const auto entries = ListCheckpoints(files_, kFolder);
    int64_t step = 0;
    for (const CheckpointEntry& entry : *entries) step = entry.committed ? entry.step : step;
    for (int save = 0; save < 3; ++save) {
      step += 10;
      const absl::Status status = writer.SaveAndPrune(step, keep_);
      const std::lock_guard lock(mutex_);
      // None of the earlier ones may make the last one fail, unless by committing the same step before it.
      if (static_cast<size_t>(index) + 1 == states_.size() && !status.ok() && !watcher_.ever().contains(step) &&
          fault_.empty()) {
        fault_ = absl::StrCat("the last generation: ", status.ToString());
      }
    }
    const std::lock_guard lock(mutex_);
    states_[static_cast<size_t>(index)] = State::kEnded;
    changed_.notify_all();
  }

  void Wait() {
    std::unique_lock lock(mutex_);
    states_[static_cast<size_t>(current_)] = State::kWaiting;
    changed_.notify_all();
    changed_.wait(lock, [this] { return turn_ == current_; });
    turn_ = -1;
    states_[static_cast<size_t>(current_)] = State::kRunning;
  }

  void Schedule() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] {
        return turn_ == -1 && std::none_of(states_.begin(), states_.end(),
                                           [](State state) { return state == State::kIdle || state == State::kRunning; });
      });
      if (fault_.empty()) fault_ = watcher_.Look(files_.disk());
      std::vector<int> waiting;
      for (size_t i = 0; i < states_.size(); ++i) {
        if (states_[i] == State::kWaiting) waiting.push_back(static_cast<int>(i));
      }
      if (waiting.empty()) return;
      // Long runs of one, so that others' pauses are long.
      if (!std::count(waiting.begin(), waiting.end(), last_) || random_() % 16 == 0)
        last_ = waiting[random_() % waiting.size()];
      turn_ = last_;
      changed_.notify_all();
    }
  }

  static thread_local int current_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<State> states_;
  int turn_ = -1;
  int last_ = -1;
  std::mt19937_64 random_;
  const int keep_;
  RecordingFileSystem files_;
  Watcher watcher_;
  std::string fault_;
};
thread_local int Race::current_ = -1;

TEST(Zombie, ManyAtOnceHarmNothing) {
  constexpr int kRaces = 250;
  for (int i = 0; i < kRaces; ++i) {
    const uint64_t seed = Seed() + static_cast<uint64_t>(i);
    const int keep = 1 + i % 3;
    Race race(seed, keep, i % 2 == 1);
    ASSERT_EQ(race.Run(4), "") << "race " << i << "; replay: MUSTER_TEST_SEED=" << Seed() << " checkpoint_zombie_test";
    ExpectTidy(race.files(), race.newest() + 10 * keep, keep);
    if (testing::Test::HasFailure()) FAIL() << "race " << i;
  }
}

}  // namespace
}  // namespace muster
