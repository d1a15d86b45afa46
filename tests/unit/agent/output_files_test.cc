// Output files on disk: whom they belong to, what a restart does to them, and what is said when they cannot be written.
#include "launcher/agent/output_files.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class OutputFilesTest : public ::testing::Test {
 protected:
  OutputFilesTest() {
    std::string name = ::testing::TempDir() + "files-XXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~OutputFilesTest() override { fs::remove_all(folder_); }

  OutputFiles Files(const std::string& typed) {
    return OutputFiles(*OutputPattern::Parse(typed, folder_), {.ranks = 2, .host = "node-b", .job_id = "4e52"});
  }
  std::string Text(const std::string& name) {
    std::ifstream file(folder_ + "/" + name);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  std::string folder_;
};

TEST_F(OutputFilesTest, MakesFoldersAndKeepsStreamsApart) {
  OutputFiles files = Files("out");
  ASSERT_TRUE(files.Check().ok());
  for (const uint32_t rank : {0u, 1u}) ASSERT_TRUE(files.Open(rank, 1, true).ok());
  ASSERT_TRUE(files.Write(0, OutputStream::kStdout, "a\n").ok());
  ASSERT_TRUE(files.Write(1, OutputStream::kStdout, "b\n").ok());
  ASSERT_TRUE(files.Write(1, OutputStream::kStderr, "c\n").ok());
  EXPECT_EQ(Text("out/1/rank.0/stdout"), "a\n");
  EXPECT_EQ(Text("out/1/rank.0/stderr"), "");
  EXPECT_EQ(Text("out/1/rank.1/stdout"), "b\n");
  EXPECT_EQ(Text("out/1/rank.1/stderr"), "c\n");
}

TEST_F(OutputFilesTest, StreamsAndRanksMayShareAFile) {
  OutputFiles files = Files("%h.log");
  for (const uint32_t rank : {0u, 1u}) ASSERT_TRUE(files.Open(rank, 1, true).ok());
  ASSERT_TRUE(files.Write(0, OutputStream::kStdout, "a\n").ok());
  ASSERT_TRUE(files.Write(0, OutputStream::kStderr, "b\n").ok());
  ASSERT_TRUE(files.Write(1, OutputStream::kStdout, "c\n").ok());
  EXPECT_EQ(Text("node-b.log"), "a\nb\nc\n");
}

TEST_F(OutputFilesTest, AnEarlierJobsFileIsReplacedAndAnEarlierGenerationsKept) {
  std::ofstream(folder_ + "/0.log") << "of an earlier job\n";
  {
    OutputFiles files = Files("%r.log");
    ASSERT_TRUE(files.Open(0, 1, true).ok());
    ASSERT_TRUE(files.Write(0, OutputStream::kStdout, "first\n").ok());
    ASSERT_TRUE(files.Open(0, 2, false).ok());
    ASSERT_TRUE(files.Write(0, OutputStream::kStdout, "second\n").ok());
  }
  OutputFiles of_new_agent = Files("%r.log");
  ASSERT_TRUE(of_new_agent.Open(0, 3, false).ok());
  ASSERT_TRUE(of_new_agent.Write(0, OutputStream::kStdout, "third\n").ok());
  EXPECT_EQ(Text("0.log"), "first\nsecond\nthird\n");
  OutputFiles by_generation = Files("%r.g%g");
  ASSERT_TRUE(by_generation.Open(0, 7, false).ok());
  ASSERT_TRUE(by_generation.Write(0, OutputStream::kStdout, "x").ok());
  EXPECT_EQ(Text("0.g7"), "x");
}

TEST_F(OutputFilesTest, AWorkersDescriptorAppends) {
  OutputFiles files = Files("%r.log:nocopy");
  ASSERT_TRUE(files.Open(0, 1, true).ok());
  auto out = files.WorkerEnd(0, OutputStream::kStdout), err = files.WorkerEnd(0, OutputStream::kStderr);
  ASSERT_TRUE(out.ok() && err.ok());
  ASSERT_EQ(::write(out->get(), "a\n", 2), 2);
  ASSERT_EQ(::write(err->get(), "b\n", 2), 2);
  ASSERT_EQ(::write(out->get(), "c\n", 2), 2);
  EXPECT_EQ(Text("0.log"), "a\nb\nc\n");
}

TEST_F(OutputFilesTest, WhatCannotBeMadeIsNamed) {
  std::ofstream(folder_ + "/taken") << "a file\n";
  EXPECT_THAT(std::string(Files("taken/%r.log").Check().message()), HasSubstr(folder_ + "/taken"));
  OutputFiles files = Files("%r");
  fs::create_directory(folder_ + "/0");
  EXPECT_TRUE(files.Check().ok());
  EXPECT_THAT(std::string(files.Open(0, 1, true).message()), HasSubstr(folder_ + "/0"));
  ASSERT_EQ(::mkfifo((folder_ + "/1").c_str(), 0600), 0);
  EXPECT_FALSE(files.Open(1, 1, true).ok()) << "a FIFO that nobody reads, without waiting for a reader";
}

TEST_F(OutputFilesTest, WantOfRoomIsSaidOnceAndWhatFitsIsKept) {
  OutputFiles files = Files("%r.log");
  ASSERT_TRUE(files.Open(0, 1, true).ok());
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small = {.rlim_cur = 8, .rlim_max = before.rlim_max};
  ::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status first = files.Write(0, OutputStream::kStdout, "1234567890");
  const absl::Status second = files.Write(0, OutputStream::kStdout, "more");
  ::setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_THAT(std::string(first.message()), HasSubstr("0.log"));
  EXPECT_TRUE(second.ok()) << "said before";
  EXPECT_EQ(Text("0.log"), "12345678");
  EXPECT_TRUE(files.Write(0, OutputStream::kStdout, "90").ok());
  EXPECT_EQ(Text("0.log"), "1234567890");
}

}  // namespace
}  // namespace muster
