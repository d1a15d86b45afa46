// Programs and session folders: on a folder of the test's own.
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
#include "launcher/cli/program.h"
#include "launcher/process/session_folder.h"

namespace muster {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
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

TEST_F(Files, APythonFileThatCannotBeExecutedIsRunByPython) {
  const std::string python = Make("bin/python3", 0755), work = folder_ + "/work";
  const auto found = [&](std::vector<std::string> command) {
    return FindCommand(command, work, folder_ + "/bin", folder_, "python3");
  };
  Make("work/plain.py", 0644);
  for (const char* name : {"plain.py", "./plain.py"}) {
    const auto plain = found({name, "--lr", "1"});
    ASSERT_TRUE(plain.ok()) << plain.status();
    EXPECT_EQ(plain->path, python);
    EXPECT_THAT(plain->argv, ElementsAre("python3", name, "--lr", "1"));
  }
  // One that can be is, by whatever its first line names.
  const std::string script = Make("work/script.py", 0755);
  for (const char* name : {"script.py", "./script.py"}) {
    EXPECT_EQ(found({name})->path, script);
    EXPECT_THAT(found({name})->argv, ElementsAre(name));
  }
  const std::string headless = Make("work/headless.py", 0755);
  std::ofstream(headless) << "print(1)\n";
  EXPECT_EQ(found({"./headless.py"})->path, python);
  const std::string in_path = Make("bin/in_path.py", 0755);
  EXPECT_EQ(found({"in_path.py"})->path, in_path);
  std::ofstream(in_path) << "print(1)\n";
  EXPECT_THAT(found({"in_path.py", "x"})->argv, ElementsAre("python3", in_path, "x"));
  EXPECT_EQ(FindCommand({"plain.py"}, work, "/none", folder_, python)->argv[0], python);

  EXPECT_TRUE(absl::IsNotFound(found({"none.py"}).status()));
  EXPECT_TRUE(absl::IsNotFound(found({"./none.py"}).status()));
  const absl::Status no_python = FindCommand({"plain.py"}, work, "/none", folder_, "python3").status();
  EXPECT_TRUE(absl::IsNotFound(no_python));
  EXPECT_THAT(std::string(no_python.message()), HasSubstr("PYTHON_EXEC"));
  std::ofstream(script) << "#!/no/such/python\n";
  EXPECT_THAT(std::string(found({"script.py"}).status().message()), HasSubstr("/no/such/python"));
  // Other programs stay as they were.
  Make("work/train", 0644);
  EXPECT_TRUE(absl::IsPermissionDenied(found({"./train"}).status()));
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

}  // namespace
}  // namespace muster
