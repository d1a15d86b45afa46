// A disk that is full at any one write: the error names the path, what was complete stays so, and the next save tidies up.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <string>

#include "tests/support/checkpoint_writer.h"
#include "tests/support/recording_file_system.h"

namespace muster {
namespace {

using testing::HasSubstr;

constexpr char kFolder[] = "/data/run";
constexpr int kKeep = 2;

void ExpectWhole(RecordingFileSystem& files, int64_t step) {
  const auto entries = ListCheckpoints(files, kFolder);
  ASSERT_TRUE(entries.ok());
  bool found = false;
  for (const CheckpointEntry& entry : *entries) {
    if (!entry.committed) continue;
    EXPECT_EQ(CheckWhole(files, entry), absl::OkStatus());
    found = found || entry.step == step;
  }
  EXPECT_TRUE(found) << "step " << step;
}

// Fails the `at`th operation that needs space, once or from there on. Returns false when there are not so many.
bool FailAt(int at, int times, const Disk& before) {
  RecordingFileSystem files(before);
  CheckpointWriter writer(&files, kFolder, 2);
  files.FailFrom(at, times);
  const absl::Status full = writer.SaveAndPrune(30, kKeep);
  files.FailFrom(-1);
  const bool failed = !full.ok();
  if (failed) {
    EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
    EXPECT_THAT(std::string(full.message()), HasSubstr("/data"));
    EXPECT_THAT(std::string(full.message()), HasSubstr("No space left on device"));
  }
  if (before.files.empty()) {
    EXPECT_TRUE(ListCheckpoints(files, kFolder).ok());
  } else {
    ExpectWhole(files, 20);
  }
  // The same step again, then another one: nothing is left of what failed.
  const absl::Status again = writer.Save(30).status();
  EXPECT_TRUE(again.ok() || absl::IsAlreadyExists(again)) << again;
  ExpectWhole(files, 30);
  EXPECT_EQ(writer.SaveAndPrune(40, kKeep), absl::OkStatus());
  ExpectWhole(files, 40);
  int64_t expected_files = 0;
  for (const CheckpointEntry& entry : *ListCheckpoints(files, kFolder)) {
    EXPECT_TRUE(entry.committed) << entry.path << " was left after failing at " << at;
    expected_files += entry.files + 1;
  }
  EXPECT_EQ(static_cast<int64_t>(files.disk().files.size()), expected_files) << "after failing at " << at;
  return failed;
}

void FailAtEach(const Disk& before, int failures_least) {
  for (const int times : {1, -1}) {
    int failures = 0;
    // A failure while tidying up, before a save, does not stop it: those count as none.
    for (int at = 0, passed = 0; passed < 8; ++at) {
      const bool failed = FailAt(at, times, before);
      failures += failed;
      passed = failed ? 0 : passed + 1;
      if (testing::Test::HasFailure()) return;
    }
    EXPECT_GE(failures, failures_least);
    std::cout << "failures: " << failures << "\n";
  }
}

TEST(DiskFull, WhenThereWasNothing) { FailAtEach({}, 15); }

TEST(DiskFull, WhenThereAreCheckpointsAndLeftovers) {
  RecordingFileSystem files;
  CheckpointWriter writer(&files, kFolder, 1);
  ASSERT_TRUE(writer.SaveAndPrune(10, kKeep).ok());
  ASSERT_TRUE(writer.SaveAndPrune(20, kKeep).ok());
  const CheckpointContent unfinished = CheckpointWriter::ContentOf(30, 1, 99);
  ASSERT_TRUE(StartSave(files, kFolder, unfinished).ok());
  ASSERT_TRUE(CheckpointWriter::WriteFiles(files, kFolder, unfinished, PlanFiles(unfinished, 250)).ok());
  FailAtEach(files.disk(), 11);
}

TEST(DiskFull, AFileThatCouldNotBeWrittenIsRemovedAtOnce) {
  RecordingFileSystem files;
  const CheckpointContent content = CheckpointWriter::ContentOf(1, 1, 1);
  ASSERT_TRUE(StartSave(files, kFolder, content).ok());
  files.FailFrom(1);
  EXPECT_TRUE(absl::IsResourceExhausted(CheckpointWriter::WriteFiles(files, kFolder, content, PlanFiles(content)).status()));
  EXPECT_EQ(files.disk().files.size(), 1u);
}

}  // namespace
}  // namespace muster
