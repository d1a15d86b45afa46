// Power that fails at every moment of save, commit and prune: what was reported is there and whole, and nothing claims to be
// complete that is not. The same check must fail when any one fsync is taken out of the log: each of them is needed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/names.h"
#include "tests/support/checkpoint_writer.h"
#include "tests/support/recording_file_system.h"

namespace muster {
namespace {

constexpr char kFolder[] = "/data/run";
constexpr int kKeep = 2;
constexpr int kStatesMax = 200;  // a power loss; more are sampled

uint64_t Seed() {
  const char* const given = getenv("MUSTER_TEST_SEED");
  return given != nullptr ? strtoull(given, nullptr, 10) : 20261121;
}

// Generations that write checkpoints one after the other, and say what they have done: "start", "file PATH", "committed STEP".
class Story {
 public:
  explicit Story(Disk before = {}) : files_(std::move(before)) {}

  CheckpointContent NewSave(uint64_t generation, int64_t step) {
    return CheckpointWriter::ContentOf(step, generation, static_cast<uint32_t>(++saves_));
  }
  absl::Status Start(const CheckpointContent& content) {
    files_.Announce("start");
    return StartSave(files_, kFolder, content);
  }
  std::vector<WrittenFile> Write(const CheckpointContent& content) {
    std::vector<std::vector<std::byte>> tensors;
    for (size_t i = 0; i < content.tensors.size(); ++i)
      tensors.push_back(CheckpointWriter::BytesOf(content, static_cast<int>(i)));
    std::vector<WrittenFile> written;
    const std::vector<CheckpointFilePlan> plan = Plan(content);
    for (int i = 0; i < static_cast<int>(plan.size()); ++i) {
      const auto data = [&](int tensor) { return std::span<const std::byte>(tensors[static_cast<size_t>(tensor)]); };
      const auto file = WriteCheckpointFile(files_, kFolder, content, plan, i, data, nullptr);
      EXPECT_TRUE(file.ok()) << file.status();
      written.push_back(*file);
      const std::string path = absl::StrCat(StepFolder(kFolder, content.step), "/", DataFileName(SaveOf(content), i));
      contents_[path] = files_.disk().files.at(path);
      files_.Announce(absl::StrCat("file ", path));
    }
    return written;
  }
  absl::Status Commit(const CheckpointContent& content, const std::vector<WrittenFile>& written) {
    const absl::Status status = CommitSave(files_, kFolder, content, Plan(content), written);
    if (status.ok()) files_.Announce(absl::StrCat("committed ", content.step));
    return status;
  }
  void Save(uint64_t generation, int64_t step) {
    const CheckpointContent content = NewSave(generation, step);
    ASSERT_EQ(Start(content), absl::OkStatus());
    ASSERT_EQ(Commit(content, Write(content)), absl::OkStatus());
    ASSERT_EQ(PruneCheckpoints(files_, kFolder, content, kKeep), absl::OkStatus());
  }

  RecordingFileSystem& files() { return files_; }
  const std::vector<DiskOperation>& log() const { return files_.log(); }
  const Disk& before() const { return files_.before(); }
  const std::map<std::string, std::string>& contents() const { return contents_; }

 private:
  static std::vector<CheckpointFilePlan> Plan(const CheckpointContent& content) { return PlanFiles(content, 250); }

  RecordingFileSystem files_;
  std::map<std::string, std::string> contents_;  // of data files, by path
  int saves_ = 0;
};

// What was said by the first `count` operations.
struct Announced {
  std::set<int64_t> committed;
  std::vector<std::string> files;  // of the save that was started last
};

Announced AnnouncedBy(const std::vector<DiskOperation>& log, size_t count) {
  Announced announced;
  for (size_t i = 0; i < count; ++i) {
    if (log[i].kind != DiskOperation::Kind::kAnnounce) continue;
    absl::string_view what = log[i].path;
    int64_t step = 0;
    if (what == "start") announced.files.clear();
    if (absl::ConsumePrefix(&what, "file ")) announced.files.emplace_back(what);
    if (absl::ConsumePrefix(&what, "committed ") && absl::SimpleAtoi(what, &step)) announced.committed.insert(step);
  }
  return announced;
}

// A committer that was paused before its rename, through the loss of the storage's power, goes on.
void LetPausedCommittersGoOn(RecordingFileSystem& files) {
  for (const auto& [path, text] : Disk(files.disk()).files) {
    const size_t slash = path.find_last_of('/');
    const auto name = ParseSaveFileName(path.substr(slash + 1));
    if (name && !name->index && DecodeManifest(text).ok()) {
      static_cast<void>(files.RenameNew(path, path.substr(0, slash + 1) + kManifestName));
    }
  }
}

// What is wrong with `disk`; empty: nothing.
std::string Judge(const Disk& disk, const Announced& announced, const std::map<std::string, std::string>& contents) {
  for (const std::string& path : announced.files) {
    const auto file = disk.files.find(path);
    if (file == disk.files.end() || file->second != contents.at(path)) return absl::StrCat(path, " was reported and is lost");
  }
  RecordingFileSystem files(disk);
  for (const bool paused_go_on : {false, true}) {
    if (paused_go_on) LetPausedCommittersGoOn(files);
    const auto entries = ListCheckpoints(files, kFolder);
    if (!entries.ok()) return entries.status().ToString();
    std::set<int64_t> whole;
    for (const CheckpointEntry& entry : *entries) {
      if (!entry.committed) continue;
      if (absl::Status status = CheckWhole(files, entry); !status.ok()) return status.ToString();
      whole.insert(entry.step);
    }
    if (!announced.committed.empty() && !whole.contains(*announced.committed.rbegin())) {
      return absl::StrCat("step ", *announced.committed.rbegin(), " was reported and is lost");
    }
    if (whole.size() < std::min<size_t>(kKeep, announced.committed.size())) {
      return absl::StrCat(whole.size(), " are left of ", announced.committed.size(), " that were reported");
    }
  }
  return "";
}

// The first thing that goes wrong after a power loss from operation `from` of `log` on; empty: nothing does.
std::string FirstFault(const Disk& before, const std::vector<DiskOperation>& log,
                       const std::map<std::string, std::string>& contents, size_t from, int* states) {
  std::string fault;
  for (size_t count = from; count <= log.size() && fault.empty(); ++count) {
    const Announced announced = AnnouncedBy(log, count);
    *states += ForEachPowerLoss(before, log, count, kStatesMax, Seed() + count, [&](const Disk& disk) {
      if (!fault.empty()) return;
      const std::string wrong = Judge(disk, announced, contents);
      if (!wrong.empty()) fault = absl::StrCat("power lost after operation ", count, ": ", wrong);
    });
  }
  return fault;
}

std::string Show(const DiskOperation& operation) {
  return absl::StrCat("fsync of the ", operation.kind == DiskOperation::Kind::kSync ? "file " : "folder ", operation.path);
}

std::string Replay() { return absl::StrCat("replay: MUSTER_TEST_SEED=", Seed(), " checkpoint_power_loss_test"); }

void ExpectNothingIsLost(const Story& story, int states_least) {
  int states = 0;
  EXPECT_EQ(FirstFault(story.before(), story.log(), story.contents(), 0, &states), "") << Replay();
  std::cout << "states after a power loss: " << states << "\n";
  EXPECT_GE(states, states_least);
}

// From operation `begin` on.
void ExpectEveryFsyncIsNeeded(const Story& story, int syncs_least, size_t begin = 0) {
  int syncs = 0;
  for (size_t i = begin; i < story.log().size(); ++i) {
    const DiskOperation& operation = story.log()[i];
    if (operation.kind != DiskOperation::Kind::kSync && operation.kind != DiskOperation::Kind::kSyncFolder) continue;
    ++syncs;
    std::vector<DiskOperation> without = story.log();
    without.erase(without.begin() + static_cast<ptrdiff_t>(i));
    int states = 0;
    const std::string fault = FirstFault(story.before(), without, story.contents(), i, &states);
    EXPECT_NE(fault, "") << Show(operation) << " (operation " << i << ") is not needed; " << Replay();
    std::cout << "without the " << Show(operation) << ": " << fault << "\n";
  }
  EXPECT_GE(syncs, syncs_least);
}

// One generation, several saves, the old ones pruned.
void SaveSeveral(Story* story) {
  for (const int64_t step : {10, 20, 30, 40}) story->Save(1, step);
}

// The first committer is killed when it has made folders and a manifest-to-be, and none of their names is durable; each later
// one when it has renamed its manifest, which is not durable then.
void KillCommitters(Story* story) {
  story->files().FailFrom(4);
  ASSERT_FALSE(story->Start(story->NewSave(1, 10)).ok());
  story->files().FailFrom(-1);
  story->Save(2, 10);
  for (const uint64_t generation : {3, 5}) {
    const CheckpointContent content = story->NewSave(generation, static_cast<int64_t>(generation) * 10);
    ASSERT_EQ(story->Start(content), absl::OkStatus());
    const std::vector<WrittenFile> written = story->Write(content);
    story->files().FailFrom(2);  // behind write and fsync of the manifest
    ASSERT_FALSE(story->Commit(content, written).ok());
    story->files().FailFrom(-1);
    ASSERT_TRUE(story->files().disk().files.contains(StepFolder(kFolder, content.step) + "/manifest.json"));
    story->Save(generation + 1, static_cast<int64_t>(generation) * 10 + 5);
  }
}

// A committer is paused before its rename; the next generation gives its save up and saves the same step or a later one. Returns
// where in the log that begins.
size_t PauseCommitter(Story* story, bool same_step) {
  story->Save(1, 10);
  const CheckpointContent paused = story->NewSave(1, 20);
  EXPECT_EQ(story->Start(paused), absl::OkStatus());
  const std::vector<WrittenFile> written = story->Write(paused);
  size_t begin = 0;
  story->files().OnEach([&](const std::string& operation) {
    if (!absl::StartsWith(operation, "rename") || begin > 0) return;
    begin = story->log().size();
    story->Save(2, same_step ? 20 : 30);
  });
  EXPECT_TRUE(absl::IsAborted(story->Commit(paused, written)));
  story->files().OnEach(nullptr);
  EXPECT_GT(begin, 0u);
  story->Save(2, 40);
  return begin;
}

TEST(PowerLoss, WhatWasReportedIsThere) {
  Story story;
  SaveSeveral(&story);
  ExpectNothingIsLost(story, 2000);
}

TEST(PowerLoss, AlsoOverKilledCommitters) {
  Story story;
  KillCommitters(&story);
  ExpectNothingIsLost(story, 2000);
}

TEST(PowerLoss, AlsoWhenAPausedCommitterGoesOn) {
  for (const bool same_step : {true, false}) {
    Story story;
    PauseCommitter(&story, same_step);
    ExpectNothingIsLost(story, 2000);
  }
}

TEST(PowerLoss, AlsoWhereRenamesAreLinks) {
  Story story;
  story.files().RenameByLink();
  SaveSeveral(&story);
  ExpectNothingIsLost(story, 2000);
}

TEST(EveryFsync, IsNeededInOneGeneration) {
  Story story;
  SaveSeveral(&story);
  // Folder of the run, of its parents, of each step; data files and manifests; the folder again; what is pruned.
  ExpectEveryFsyncIsNeeded(story, 30);
}

TEST(EveryFsync, IsNeededOverKilledCommitters) {
  Story story;
  KillCommitters(&story);
  ExpectEveryFsyncIsNeeded(story, 30);
}

TEST(EveryFsync, IsNeededWithAPausedCommitter) {
  Story story;
  // What the paused one wrote and synced itself is never used.
  const size_t begin = PauseCommitter(&story, true);
  ExpectEveryFsyncIsNeeded(story, 15, begin);
}

}  // namespace
}  // namespace muster
