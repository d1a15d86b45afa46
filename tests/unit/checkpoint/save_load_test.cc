// Saving, listing, verifying, reading and pruning, on files in memory and on the machine's own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/checkpoint/load.h"
#include "runtime/checkpoint/names.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/save.h"
#include "tests/support/checkpoint_writer.h"
#include "tests/support/recording_file_system.h"

namespace muster {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kFolder[] = "/data/run";

std::vector<int64_t> CommittedSteps(FileSystem& files, const std::string& folder) {
  std::vector<int64_t> steps;
  const auto entries = ListCheckpoints(files, folder);
  EXPECT_TRUE(entries.ok()) << entries.status();
  for (const CheckpointEntry& entry : *entries) {
    if (!entry.committed) continue;
    EXPECT_EQ(CheckWhole(files, entry), absl::OkStatus());
    steps.push_back(entry.step);
  }
  return steps;
}

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "checkpoint-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(Checkpoint, IsThereWithWhatWasSaved) {
  RecordingFileSystem files;
  ASSERT_TRUE(CheckpointWriter(&files, kFolder, 7).Save(100).ok());
  const auto entries = ListCheckpoints(files, kFolder);
  ASSERT_TRUE(entries.ok());
  ASSERT_EQ(entries->size(), 1u);
  const CheckpointEntry& entry = entries->front();
  EXPECT_EQ(entry.step, 100);
  EXPECT_EQ(entry.path, "/data/run/step-100");
  EXPECT_TRUE(entry.committed);
  EXPECT_EQ(entry.damage, absl::OkStatus());
  EXPECT_EQ(entry.content->generation, 7u);
  EXPECT_EQ(entry.content->job_id, "5f3c9a12d0e4b7a15f3c9a12d0e4b7a1");
  EXPECT_GT(entry.files, 1);
  EXPECT_GT(entry.committed_unix_ms, 0);
  EXPECT_EQ(CheckWhole(files, entry), absl::OkStatus());
  int64_t bytes = 0;
  for (const auto& [path, contents] : files.disk().files) {
    if (path.ends_with(".safetensors")) bytes += static_cast<int64_t>(contents.size());
  }
  EXPECT_EQ(entry.bytes, bytes);
}

TEST(Checkpoint, OfTheMachinesOwnFilesToo) {
  const TemporaryFolder temporary;
  const std::string folder = temporary.path() + "/new/folder/";
  CheckpointWriter writer(&PosixFileSystem(), folder, 1);
  for (int64_t step = 10; step <= 50; step += 10) ASSERT_EQ(writer.SaveAndPrune(step, 2), absl::OkStatus());
  EXPECT_THAT(CommittedSteps(PosixFileSystem(), folder), ElementsAre(40, 50));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 2);
  EXPECT_EQ(writer.SaveAndPrune(50, 2).code(), absl::StatusCode::kAlreadyExists);
}

TEST(Checkpoint, APipeInAFilesPlaceIsDamageAndNotWaitedFor) {
  const TemporaryFolder temporary;
  CheckpointWriter writer(&PosixFileSystem(), temporary.path(), 1);
  for (const int64_t step : {10, 20}) ASSERT_TRUE(writer.Save(step).ok());
  std::string data;
  for (const auto& file : std::filesystem::directory_iterator(temporary.path() + "/step-10")) {
    if (file.path().extension() == ".safetensors") data = file.path().string();
  }
  for (const std::string& path : {data, temporary.path() + "/step-20/manifest.json"}) {
    ASSERT_TRUE(std::filesystem::remove(path));
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  }
  const auto entries = ListCheckpoints(PosixFileSystem(), temporary.path());
  ASSERT_TRUE(entries.ok());
  ASSERT_EQ(entries->size(), 2u);
  for (const CheckpointEntry& entry : *entries) {
    const absl::Status status = VerifyCheckpoint(PosixFileSystem(), entry);
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("it is not a regular file"));
  }
}

TEST(Checkpoint, AFolderThatIsNotThereHasNone) {
  RecordingFileSystem files;
  const auto entries = ListCheckpoints(files, kFolder);
  ASSERT_TRUE(entries.ok());
  EXPECT_THAT(*entries, IsEmpty());
}

TEST(Checkpoint, DataFilesDependOnTheTensorsAlone) {
  RecordingFileSystem first, second;
  ASSERT_TRUE(CheckpointWriter(&first, kFolder, 1).Save(100).ok());
  ASSERT_TRUE(CheckpointWriter(&second, "/elsewhere", 9).Save(100).ok());
  std::vector<std::string> of_first, of_second;
  for (const auto& [path, bytes] : first.disk().files) {
    if (path.ends_with(".safetensors")) of_first.push_back(bytes);
  }
  for (const auto& [path, bytes] : second.disk().files) {
    if (path.ends_with(".safetensors")) of_second.push_back(bytes);
  }
  EXPECT_EQ(of_first, of_second);
}

TEST(Checkpoint, ManyChunksAndLargeTensors) {
  RecordingFileSystem files;
  CheckpointContent content;
  content.step = 3;
  content.tensors = {{"large", DataType::kUint8, {2 * kCheckpointChunkBytes + 12345}},
                     {"small", DataType::kUint8, {100}},
                     {"also large", DataType::kUint8, {kCheckpointChunkBytes}}};
  const std::vector<CheckpointFilePlan> plan = PlanFiles(content);
  ASSERT_EQ(plan.size(), 1u);
  EXPECT_EQ(ChunksOf(plan[0]), 4);
  ASSERT_EQ(StartSave(files, kFolder, content), absl::OkStatus());
  const auto written = CheckpointWriter::WriteFiles(files, kFolder, content, plan);
  ASSERT_TRUE(written.ok()) << written.status();
  ASSERT_EQ(CommitSave(files, kFolder, content, plan, *written), absl::OkStatus());
  const auto entries = ListCheckpoints(files, kFolder);
  ASSERT_EQ(VerifyCheckpoint(files, entries->at(0)), absl::OkStatus());
  for (int only = 0; only < 3; ++only) {  // each alone
    std::vector<std::byte> bytes(static_cast<size_t>(content.tensors[static_cast<size_t>(only)].bytes()));
    ASSERT_EQ(ReadCheckpoint(files, entries->at(0),
                             [&](int tensor) { return tensor == only ? std::span(bytes) : std::span<std::byte>(); }),
              absl::OkStatus());
    EXPECT_TRUE(bytes == CheckpointWriter::BytesOf(content, only));
  }
}

TEST(Checkpoint, DataIsReleasedOnceAlsoAfterAnError) {
  RecordingFileSystem files;
  const CheckpointContent content = CheckpointWriter::ContentOf(1, 1, 1);
  const std::vector<CheckpointFilePlan> plan = PlanFiles(content);
  const std::vector<std::byte> bytes(100);
  const auto data = [&](int tensor) {
    return std::span(bytes).first(static_cast<size_t>(content.tensors[static_cast<size_t>(tensor)].bytes()));
  };
  int released = 0;
  const auto read = [&released] { ++released; };
  const auto unseen = WriteCheckpointFile(files, kFolder, content, plan, 0, data, read);
  EXPECT_TRUE(absl::IsNotFound(unseen.status()));
  EXPECT_THAT(std::string(unseen.status().message()), HasSubstr("all nodes share"));
  EXPECT_EQ(released, 1);
  ASSERT_EQ(StartSave(files, kFolder, content), absl::OkStatus());
  ASSERT_TRUE(WriteCheckpointFile(files, kFolder, content, plan, 0, data, read).ok());
  EXPECT_EQ(released, 2);
}

TEST(Checkpoint, FilesThatAreNotSeenAreNotCommitted) {
  RecordingFileSystem files;
  const CheckpointContent content = CheckpointWriter::ContentOf(1, 1, 1);
  const std::vector<CheckpointFilePlan> plan = PlanFiles(content, 200);
  ASSERT_EQ(StartSave(files, kFolder, content), absl::OkStatus());
  const auto written = CheckpointWriter::WriteFiles(files, kFolder, content, plan);
  ASSERT_TRUE(written.ok());
  const std::string missing = "/data/run/step-1/" + DataFileName(SaveOf(content), 1);
  ASSERT_EQ(files.Unlink(missing), absl::OkStatus());
  const absl::Status status = CommitSave(files, kFolder, content, plan, *written);
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(missing));
  EXPECT_THAT(CommittedSteps(files, kFolder), IsEmpty());
}

TEST(Checkpoint, EverySaveHasANameOfItsOwn) {
  RecordingFileSystem files;
  CheckpointContent content = CheckpointWriter::ContentOf(1, 1, 1);
  ASSERT_EQ(StartSave(files, kFolder, content), absl::OkStatus());
  const absl::Status again = StartSave(files, kFolder, content);
  EXPECT_TRUE(absl::IsFailedPrecondition(again)) << again;
  EXPECT_THAT(std::string(again.message()), HasSubstr("save_id"));
  content.save_id = 2;  // the same generation tries once more
  ASSERT_EQ(StartSave(files, kFolder, content), absl::OkStatus());
  EXPECT_EQ(files.disk().files.size(), 1u);
  EXPECT_TRUE(files.disk().files.contains("/data/run/step-1/g1-00000002-manifest"));
}

TEST(Checkpoint, OfSeveralThatCommitAStepOneWins) {
  RecordingFileSystem files;
  const CheckpointContent old = CheckpointWriter::ContentOf(5, 1, 1);
  const std::vector<CheckpointFilePlan> plan = PlanFiles(old, 200);
  CheckpointContent other = old;
  other.save_id = 2;
  other.generation = 0;
  ASSERT_EQ(StartSave(files, kFolder, old), absl::OkStatus());
  ASSERT_EQ(StartSave(files, kFolder, other), absl::OkStatus());
  const auto written = CheckpointWriter::WriteFiles(files, kFolder, old, plan);
  const auto written_by_other = CheckpointWriter::WriteFiles(files, kFolder, other, plan);
  ASSERT_EQ(CommitSave(files, kFolder, other, plan, *written_by_other), absl::OkStatus());
  EXPECT_TRUE(absl::IsAborted(CommitSave(files, kFolder, old, plan, *written)));
  EXPECT_THAT(CommittedSteps(files, kFolder), ElementsAre(5));
  // What the loser wrote goes, and nothing else.
  ASSERT_EQ(PruneCheckpoints(files, kFolder, other, 1), absl::OkStatus());
  EXPECT_EQ(files.disk().files.size(), plan.size() + 1);
  EXPECT_THAT(CommittedSteps(files, kFolder), ElementsAre(5));
}

TEST(Checkpoint, ALaterGenerationGivesUpTheSavesOfEarlierOnes) {
  RecordingFileSystem files;
  const CheckpointContent old = CheckpointWriter::ContentOf(5, 1, 1);
  const std::vector<CheckpointFilePlan> plan = PlanFiles(old, 200);
  ASSERT_EQ(StartSave(files, kFolder, old), absl::OkStatus());
  const auto written = CheckpointWriter::WriteFiles(files, kFolder, old, plan);
  ASSERT_TRUE(CheckpointWriter(&files, kFolder, 2).Save(6).ok());
  EXPECT_TRUE(absl::IsAborted(CommitSave(files, kFolder, old, plan, *written)));
  EXPECT_THAT(CommittedSteps(files, kFolder), ElementsAre(6));
  EXPECT_FALSE(files.disk().folders.contains("/data/run/step-5"));
}

TEST(Prune, DamagedOnesDoNotCount) {
  RecordingFileSystem files;
  CheckpointWriter writer(&files, kFolder, 1);
  for (const int64_t step : {1, 2, 3}) ASSERT_TRUE(writer.Save(step).ok());
  Disk disk = files.disk();
  disk.files["/data/run/step-3/manifest.json"][20] ^= 1;
  RecordingFileSystem damaged(disk);
  CheckpointWriter later(&damaged, kFolder, 2);
  const auto saved = later.Save(4);
  ASSERT_TRUE(saved.ok());
  ASSERT_EQ(PruneCheckpoints(damaged, kFolder, *saved, 2), absl::OkStatus());
  std::vector<std::string> states;
  const auto entries = ListCheckpoints(damaged, kFolder);
  ASSERT_TRUE(entries.ok());
  for (const CheckpointEntry& entry : *entries) states.push_back(absl::StrCat(entry.step, entry.damage.ok() ? "" : " damaged"));
  EXPECT_THAT(states, ElementsAre("2", "3 damaged", "4"));
  // Known to be damaged though its manifest is whole: it does not count, and stays among those that do.
  const auto next = later.Save(5);
  ASSERT_TRUE(next.ok());
  ASSERT_EQ(PruneCheckpoints(damaged, kFolder, *next, 2, {4}), absl::OkStatus());
  EXPECT_EQ(ListCheckpoints(damaged, kFolder)->size(), 4u);
  ASSERT_EQ(PruneCheckpoints(damaged, kFolder, *next, 2), absl::OkStatus());
  EXPECT_THAT(CommittedSteps(damaged, kFolder), ElementsAre(4, 5));
}

TEST(Prune, LeavesLaterStepsAndStrangersAlone) {
  RecordingFileSystem files;
  ASSERT_TRUE(CheckpointWriter(&files, kFolder, 3).Save(50).ok());
  ASSERT_EQ(files.MakeFolder("/data/run/step-07"), absl::OkStatus());
  ASSERT_TRUE(files.OpenForAppend("/data/run/notes").ok());
  CheckpointWriter old(&files, kFolder, 1);
  ASSERT_EQ(old.SaveAndPrune(10, 1), absl::OkStatus());
  ASSERT_EQ(old.SaveAndPrune(20, 1), absl::OkStatus());
  EXPECT_THAT(CommittedSteps(files, kFolder), ElementsAre(20, 50));
  EXPECT_TRUE(files.Exists("/data/run/step-07"));
  EXPECT_TRUE(files.Exists("/data/run/notes"));
}

TEST(PlanFiles, FillsFilesInOrder) {
  CheckpointContent content;
  for (int i = 0; i < 10; ++i) content.tensors.push_back({absl::StrCat("t", i), DataType::kUint8, {i == 4 ? 5000 : 100}});
  const std::vector<CheckpointFilePlan> plan = PlanFiles(content, 1000);
  std::vector<int> all;
  for (const CheckpointFilePlan& file : plan) {
    EXPECT_TRUE(file.bytes <= 1000 || file.tensors.size() == 1);
    int64_t data_bytes = 0;
    for (const int tensor : file.tensors) data_bytes += content.tensors[static_cast<size_t>(tensor)].bytes();
    const std::string header = SafetensorsHeader(content, file);
    EXPECT_EQ(header.size() % 64, 0u);
    EXPECT_EQ(static_cast<int64_t>(header.size()) + data_bytes, file.bytes);
    all.insert(all.end(), file.tensors.begin(), file.tensors.end());
  }
  EXPECT_THAT(all, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  EXPECT_GT(plan.size(), 2u);
  EXPECT_THAT(PlanFiles(CheckpointContent()), IsEmpty());
}

TEST(Content, WhatCannotBeWrittenDownIsRefused) {
  const auto with = [](CheckpointTensor tensor) {
    CheckpointContent content;
    content.tensors = {{"weight", DataType::kFloat32, {1}}, std::move(tensor)};
    return CheckContent(content).code();
  };
  EXPECT_EQ(with({"bias", DataType::kFloat32, {1}}), absl::StatusCode::kOk);
  EXPECT_EQ(with({"weight", DataType::kFloat32, {1}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(with({"", DataType::kFloat32, {1}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(with({"__metadata__", DataType::kFloat32, {1}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(with({"\xff", DataType::kFloat32, {1}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(with({"bias", DataType::kFloat32, {-1}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(with({"bias", DataType::kFloat32, {int64_t{1} << 40, int64_t{1} << 40, 0}}), absl::StatusCode::kInvalidArgument);
}

TEST(Names, HaveOneSpelling) {
  EXPECT_EQ(StepOfFolderName("step-0"), 0);
  EXPECT_EQ(StepOfFolderName("step-100"), 100);
  for (const char* const other :
       {"step-", "step-007", "step--1", "step-+1", "step- 1", "step-1 ", "Step-1", "step-99999999999999999999"}) {
    EXPECT_EQ(StepOfFolderName(other), std::nullopt) << other;
  }
  const SaveName save{7, 0x5f3c9a12};
  EXPECT_EQ(ManifestToBeName(save), "g7-5f3c9a12-manifest");
  EXPECT_EQ(DataFileName(save, 3), "g7-5f3c9a12-00003.safetensors");
  EXPECT_EQ(ParseSaveFileName("g7-5f3c9a12-manifest")->save, save);
  EXPECT_EQ(ParseSaveFileName("g7-5f3c9a12-00003.safetensors")->index, 3);
  EXPECT_EQ(ParseSaveFileName("g7-5f3c9a12-123456.safetensors")->index, 123456);
  for (const char* const other : {"", "g", "g7", "g7-", "g7-5f3c9a12", "g7-5f3c9a12-", "g7-5F3C9A12-manifest",
                                  "g07-5f3c9a12-manifest", "g-5f3c9a12-manifest", "g7-5f3c9a1-manifest", "g7-0x3c9a12-manifest",
                                  "g7-5f3c9a12-0003.safetensors", "g7-5f3c9a12-000003.safetensors", "g7-5f3c9a12-.safetensors",
                                  "g7-5f3c9a12-manifest.safetensors", "g7-5f3c9a12-00003", "manifest.json"}) {
    EXPECT_FALSE(ParseSaveFileName(other).has_value()) << other;
  }
}

}  // namespace
}  // namespace muster
