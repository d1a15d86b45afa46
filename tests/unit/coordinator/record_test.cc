#include "launcher/coordinator/record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/support/recording_file_system.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kFolder[] = "/state/job";
constexpr char kFile[] = "/state/job/record";

v1::RecordEntry Entry(uint64_t generation) {
  v1::RecordEntry entry;
  entry.set_job_id(std::string(16, 'j'));
  entry.set_incarnation(1);
  entry.mutable_generation_taken()->set_generation(generation);
  return entry;
}

// The bytes of a record with `count` entries.
std::string Bytes(int count) {
  RecordingFileSystem files;
  auto record = Record::Open(&files, kFolder);
  for (int i = 0; i < count; ++i) EXPECT_TRUE((*record)->Append(Entry(i)).ok());
  return files.disk().files.at(kFile);
}

Disk DiskWith(const std::string& bytes) {
  Disk disk;
  disk.folders = {"/", "/state", "/state/job"};
  disk.files[kFile] = bytes;
  return disk;
}

TEST(Record, WhatWasAppendedIsReadAgain) {
  RecordingFileSystem files(DiskWith(Bytes(3)));
  auto record = Record::Open(&files, kFolder);
  ASSERT_TRUE(record.ok()) << record.status();
  ASSERT_EQ((*record)->entries().size(), 3u);
  EXPECT_EQ((*record)->entries()[2].generation_taken().generation(), 2u);
  ASSERT_TRUE((*record)->Append(Entry(3)).ok());
  RecordingFileSystem again(files.disk());
  EXPECT_EQ((*Record::Open(&again, kFolder))->entries().size(), 4u);
}

TEST(Record, ATornTailIsCutOffWhereverItIsTorn) {
  const std::string two = Bytes(2);
  const std::string three = Bytes(3);
  for (size_t bytes = two.size() + 1; bytes < three.size(); ++bytes) {
    RecordingFileSystem files(DiskWith(three.substr(0, bytes)));
    auto record = Record::Open(&files, kFolder);
    ASSERT_TRUE(record.ok()) << bytes << ": " << record.status();
    EXPECT_EQ((*record)->entries().size(), 2u);
    EXPECT_EQ((*record)->torn_bytes(), bytes - two.size());
    ASSERT_TRUE((*record)->Append(Entry(9)).ok());
    RecordingFileSystem again(files.disk());
    EXPECT_EQ((*Record::Open(&again, kFolder))->entries().back().generation_taken().generation(), 9u);
  }
}

TEST(Record, ADamagedMiddleIsReportedWithItsOffset) {
  const size_t first = Bytes(1).size();
  const std::string three = Bytes(3);
  for (size_t at = 0; at < Bytes(2).size(); ++at) {
    std::string damaged = three;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    RecordingFileSystem files(DiskWith(damaged));
    const auto record = Record::Open(&files, kFolder);
    ASSERT_TRUE(absl::IsDataLoss(record.status())) << "byte " << at << ": " << record.status();
    EXPECT_THAT(std::string(record.status().message()),
                HasSubstr(std::string(kFile) + " is damaged at byte " + (at < first ? "0:" : std::to_string(first) + ":")));
  }
}

TEST(Record, AMissingEntryIsDamage) {
  const size_t first = Bytes(1).size();
  std::string bytes = Bytes(3);
  bytes.erase(first, Bytes(2).size() - first);
  RecordingFileSystem files(DiskWith(bytes));
  EXPECT_TRUE(absl::IsDataLoss(Record::Open(&files, kFolder).status()));
}

TEST(Record, AFullDiskIsNamedWithItsRemedyWhereverItHappens) {
  for (int count = 0;; ++count) {
    RecordingFileSystem files;
    files.FailFrom(count);
    auto record = Record::Open(&files, kFolder);
    absl::Status status = record.status();
    if (record.ok()) status = (*record)->Append(Entry(1));
    if (status.ok()) {
      EXPECT_GT(count, 5);  // two folders, the file, three folder fsyncs, a write, an fsync
      break;
    }
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("/state"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("XDG_STATE_HOME"));
    if (record.ok()) {
      files.FailFrom(-1);
      EXPECT_FALSE((*record)->Append(Entry(2)).ok()) << "after a failed write nothing may be believed of the file";
    }
  }
}

// Every fsync may wait for the disk.
TEST(Record, NamesThatAnOlderJobHasMadeDurableAreNotSyncedAgain) {
  const auto synced = [](const Disk& disk) {
    RecordingFileSystem files(disk);
    EXPECT_TRUE(Record::Open(&files, "/state/muster/job").ok());
    std::vector<std::string> folders;
    for (const DiskOperation& operation : files.log()) {
      if (operation.kind == DiskOperation::Kind::kSyncFolder) folders.push_back(operation.path);
    }
    return folders;
  };
  Disk disk;
  disk.folders = {"/", "/state", "/state/muster", "/state/muster/job", "/state/muster/older"};
  EXPECT_THAT(synced(disk), ElementsAre("/state/muster/job", "/state/muster", "/state", "/"));
  disk.files["/state/muster/older/record"] = Bytes(1);
  EXPECT_THAT(synced(disk), ElementsAre("/state/muster/job", "/state/muster", "/state", "/")) << "that job's may not be durable";
  disk.files["/state/muster/.names-are-durable"] = "";
  EXPECT_THAT(synced(disk), ElementsAre("/state/muster/job", "/state/muster"));
}

TEST(Record, SaysThatNamesAreDurableOnceTheyAre) {
  RecordingFileSystem files{Disk{}};
  ASSERT_TRUE(Record::Open(&files, "/state/muster/job").ok());
  const std::vector<DiskOperation>& log = files.log();
  const auto said = std::find_if(log.begin(), log.end(), [](const auto& one) { return one.path == "/state/muster/.names-are-durable"; });
  ASSERT_NE(said, log.end());
  EXPECT_EQ(std::count_if(log.begin(), said, [](const auto& one) { return one.kind == DiskOperation::Kind::kSyncFolder; }), 4);
}

TEST(Record, OfAJobThatEndsWithTheMachineWaitsForNoDisk) {
  RecordingFileSystem files{Disk{}};
  {
    auto record = Record::Open(&files, "/state/job", Durability::kProcess);
    ASSERT_TRUE(record.ok()) << record.status();
    ASSERT_TRUE((*record)->Append(Entry(1)).ok());
  }
  for (const DiskOperation& operation : files.log()) {
    EXPECT_NE(operation.kind, DiskOperation::Kind::kSync);
    EXPECT_NE(operation.kind, DiskOperation::Kind::kSyncFolder);
    EXPECT_THAT(operation.path, Not(HasSubstr(".names-are-durable")));
  }
  const auto again = Record::Open(&files, "/state/job", Durability::kProcess);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ((*again)->entries().size(), 1u);
}

TEST(Record, OnRealFiles) {
  std::string folder = ::testing::TempDir() + "/muster-record-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const std::string job = folder + "/deep/job";
  {
    auto record = Record::Open(&PosixFileSystem(), job);
    ASSERT_TRUE(record.ok()) << record.status();
    ASSERT_TRUE((*record)->Append(Entry(1)).ok());
    const auto second = Record::Open(&PosixFileSystem(), job);
    EXPECT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
  }
  const auto again = Record::Open(&PosixFileSystem(), job);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ((*again)->entries().size(), 1u);
  EXPECT_TRUE(PosixFileSystem().Unlink(job + "/record").ok());
  EXPECT_TRUE(PosixFileSystem().Unlink(folder + "/deep/.names-are-durable").ok());
  for (const std::string& made : {job, folder + "/deep", folder}) EXPECT_EQ(::remove(made.c_str()), 0);
}

TEST(Record, AFolderThatCannotBeMadeIsNamed) {
  const auto record = Record::Open(&PosixFileSystem(), "/proc/muster/job");
  EXPECT_TRUE(absl::IsResourceExhausted(record.status())) << record.status();
  EXPECT_THAT(std::string(record.status().message()), HasSubstr("/proc/muster"));
}

}  // namespace
}  // namespace muster
