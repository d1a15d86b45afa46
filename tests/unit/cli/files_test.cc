// Programs, job folders, session folders: on a folder of the test's own.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/cli/job_folder.h"
#include "launcher/cli/program.h"
#include "launcher/process/session_folder.h"
#include "launcher/process/write_file.h"

namespace muster {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class Files : public ::testing::Test {
 protected:
  Files() {
    std::string name = (fs::temp_directory_path() / "muster-test-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~Files() override { fs::remove_all(folder_); }

  std::string Make(const std::string& name, int mode) {
    const std::string path = folder_ + "/" + name;
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path) << "#!/bin/sh\n";
    ::chmod(path.c_str(), static_cast<mode_t>(mode));
    return path;
  }

  std::string folder_;
};

TEST_F(Files, ABareNameIsFoundInPathThenBesideMuster) {
  const std::string in_path = Make("path/both", 0755), beside = Make("own/alone", 0755);
  Make("own/both", 0755);
  EXPECT_EQ(*FindProgram("both", "", folder_ + "/none:" + folder_ + "/path", folder_ + "/own"), in_path);
  EXPECT_EQ(*FindProgram("alone", "", folder_ + "/path", folder_ + "/own"), beside);
}

TEST_F(Files, APathIsTakenFromTheWorkingDirectory) {
  const std::string program = Make("work/bin/train", 0755);
  EXPECT_EQ(*FindProgram("./bin/train", folder_ + "/work", "/bin", folder_), program);
  EXPECT_EQ(*FindProgram("bin/../bin/train", folder_ + "/work", "/bin", folder_), program);
  EXPECT_EQ(*FindProgram(program, "/", "/bin", folder_), program);
}

TEST_F(Files, WhatCannotBeStartedIsNamedWithTheRemedy) {
  const std::string plain = Make("work/train", 0644);
  const auto missing = FindProgram("train-it", "", "/bin", folder_);
  EXPECT_TRUE(absl::IsNotFound(missing.status()));
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("train-it not found in PATH"));
  EXPECT_TRUE(absl::IsNotFound(FindProgram("./train-it", folder_, "/bin", folder_).status()));
  const auto not_executable = FindProgram(plain, "", "/bin", folder_);
  EXPECT_TRUE(absl::IsPermissionDenied(not_executable.status()));
  EXPECT_THAT(std::string(not_executable.status().message()), HasSubstr("chmod +x"));
  EXPECT_TRUE(absl::IsPermissionDenied(FindProgram(folder_, "", "/bin", folder_).status()));
  EXPECT_TRUE(absl::IsPermissionDenied(FindProgram("train", "", folder_ + "/work", folder_).status()));
  const std::string script = Make("work/script", 0755);
  std::ofstream(script) << "#! /no/such/interpreter -u\n";
  const auto no_interpreter = FindProgram(script, "", "/bin", folder_);
  EXPECT_TRUE(absl::IsPermissionDenied(no_interpreter.status()));
  EXPECT_THAT(std::string(no_interpreter.status().message()), HasSubstr("/no/such/interpreter"));
  // Beside the user, but not in PATH.
  Make("here/train", 0755);
  EXPECT_THAT(std::string(FindProgram("train", folder_ + "/here", "/bin", folder_).status().message()), HasSubstr("./train"));
}

TEST_F(Files, StateGoesWhereTheUserKeepsIt) {
  bool fallback = false;
  EXPECT_EQ(StateHome("/state", "/home/u", "/tmp", &fallback), "/state");
  EXPECT_EQ(StateHome("", "/home/u", "/tmp", &fallback), "/home/u/.local/state");
  EXPECT_EQ(StateHome("relative", "/home/u", "/tmp", &fallback), "/home/u/.local/state");
  EXPECT_FALSE(fallback);
  EXPECT_THAT(StateHome(std::nullopt, std::nullopt, "/tmp", &fallback), HasSubstr("/tmp/muster-state-"));
  EXPECT_TRUE(fallback);
}

TEST_F(Files, TheNewestTwentyJobsAreKeptAndRunningOnesAnyway) {
  const auto id = [](int number) { return absl::StrFormat("%032x", number); };
  auto running = JobFolder::Create(folder_, id(0));
  ASSERT_TRUE(running.ok()) << running.status();
  fs::create_directory(folder_ + "/muster/notes-of-the-user");
  for (int i = 1; i <= 2 * kJobFoldersKept; ++i) {
    const auto job = JobFolder::Create(folder_, id(i));
    ASSERT_TRUE(job.ok()) << job.status();
    // Ages in the order of making, whatever the clock's grain.
    fs::last_write_time((*job)->path(), fs::file_time_type::clock::now() - std::chrono::hours(1000 - i));
  }
  EXPECT_TRUE(fs::exists((*running)->path()));
  EXPECT_TRUE(fs::exists(folder_ + "/muster/notes-of-the-user"));
  EXPECT_TRUE(fs::exists(folder_ + "/muster/" + id(2 * kJobFoldersKept)));
  EXPECT_FALSE(fs::exists(folder_ + "/muster/" + id(1)));
  const auto count = std::distance(fs::directory_iterator(folder_ + "/muster"), fs::directory_iterator());
  EXPECT_LE(count, kJobFoldersKept + 2);
  EXPECT_GE(count, kJobFoldersKept);
}

TEST_F(Files, AJobFolderThatCannotBeMadeNamesPathAndRemedy) {
  std::ofstream(folder_ + "/file") << "in the way";
  const auto job = JobFolder::Create(folder_ + "/file", std::string(32, 'a'));
  ASSERT_FALSE(job.ok());
  EXPECT_THAT(std::string(job.status().message()), HasSubstr(folder_ + "/file/muster"));
  EXPECT_THAT(std::string(job.status().message()), HasSubstr("XDG_STATE_HOME"));
}

TEST_F(Files, ASessionFolderGoesWithItsJobAndTakesDeadOnesAlong) {
  const std::string dead = folder_ + "/muster-" + std::string(32, 'd'), other = folder_ + "/muster-notes";
  fs::create_directory(dead);
  fs::create_directory(other);
  auto first = SessionFolder::Create(folder_, std::string(32, 'a'));
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_FALSE(fs::exists(dead));
  EXPECT_TRUE(fs::exists(other));
  const std::string path = (*first)->path();
  const auto second = SessionFolder::Create(folder_, std::string(32, 'b'));
  EXPECT_TRUE(fs::exists(path));  // locked by its job
  std::ofstream(path + "/left-behind") << "x";
  first->reset();
  EXPECT_FALSE(fs::exists(path));
}

TEST_F(Files, AReportIsReplacedAsAWhole) {
  const std::string path = folder_ + "/report.json";
  ASSERT_TRUE(WriteFile(path, "a long first text").ok());
  ASSERT_TRUE(WriteFile(path, "short").ok());
  std::ifstream file(path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "short");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 1);
  EXPECT_TRUE(WriteFile("/dev/null", "text").ok());
  EXPECT_FALSE(WriteFile(folder_ + "/no/such/folder", "text").ok());
}

}  // namespace
}  // namespace muster
