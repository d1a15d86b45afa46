#include "runtime/device/library_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>

namespace muster {
namespace {

using testing::HasSubstr;

// A real library under a name that nothing else has, in a folder of the test's own.
class LibrarySearchTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) / "library_search";
    std::filesystem::remove_all(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void PutLibrary(const std::string& place) {
    std::filesystem::create_directories(folder_ / place);
    for (const char* from :
         {"/lib/x86_64-linux-gnu/libutil.so.1", "/usr/lib/x86_64-linux-gnu/libutil.so.1", "/lib64/libutil.so.1"}) {
      if (!std::filesystem::exists(from)) continue;
      std::filesystem::copy_file(std::filesystem::canonical(from), folder_ / place / kName);
      return;
    }
    GTEST_SKIP() << "no libutil.so.1 here to play the library";
  }

  absl::StatusOr<OpenedLibrary> Open(const std::string& chosen = "") {
    LibrarySearch search;
    search.what = "the library";
    search.variable = "MUSTER_TEST_LIBRARY";
    search.chosen = chosen;
    search.names = {kName};
    search.wheels = {"nvidia/test/lib"};
    search.remedy = "install it";
    return OpenLibrary(search, [this](const char* name) {
      const auto found = environment_.find(name);
      return found == environment_.end() ? nullptr : found->second.c_str();
    });
  }

  static constexpr char kName[] = "libmuster_test_search.so.7";
  std::filesystem::path folder_;
  std::map<std::string, std::string> environment_;
};

TEST_F(LibrarySearchTest, SaysWhatWasTriedAndWhatToInstall) {
  environment_["CUDA_HOME"] = "/opt/nowhere";
  const absl::Status status = Open().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  for (const char* part : {"the library is not installed", kName, "/opt/nowhere/lib64", "/usr/local/cuda/lib64",
                           "nvidia/test/lib", "install it", "MUSTER_TEST_LIBRARY"}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
}

TEST_F(LibrarySearchTest, ReadsTheVariableOnly) {
  PutLibrary("cuda/lib64");
  environment_["CUDA_HOME"] = (folder_ / "cuda").string();
  const absl::Status status = Open("/nowhere/lib.so").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("MUSTER_TEST_LIBRARY: /nowhere/lib.so"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("unset it"));
}

TEST_F(LibrarySearchTest, LooksIntoTheCudaFolder) {
  PutLibrary("cuda/lib");
  environment_["CUDA_HOME"] = (folder_ / "cuda").string();
  const auto opened = Open();
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(opened->file, (folder_ / "cuda/lib" / kName).string());
  EXPECT_NE(opened->handle, nullptr);
}

TEST_F(LibrarySearchTest, LooksIntoPythonsFolders) {
  PutLibrary("venv/lib/python3.11/site-packages/nvidia/test/lib");
  environment_["VIRTUAL_ENV"] = (folder_ / "venv").string();
  const auto opened = Open();
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_THAT(opened->file, HasSubstr("site-packages/nvidia/test/lib"));
}

TEST_F(LibrarySearchTest, AFileThatIsNoLibrary) {
  const absl::Status status = Open("/etc/passwd").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("/etc/passwd"));
}

}  // namespace
}  // namespace muster
