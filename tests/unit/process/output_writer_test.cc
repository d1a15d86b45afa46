// The workers' output at its end: logs always, our own stdout where somebody is attached.
#include "launcher/process/output_writer.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "runtime/base/log.h"

namespace muster {
namespace {

// Stands in for this process's stdout and stderr while it lives.
class Streams {
 public:
  Streams() : out_(::dup(1)), err_(::dup(2)) {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    reader_.Reset(ends[0]);
    ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
    ::dup2(ends[1], 1);
    ::dup2(ends[1], 2);
    ::close(ends[1]);
  }
  ~Streams() {
    ::dup2(out_.get(), 1);
    ::dup2(err_.get(), 2);
  }
  UniqueFd reader_;

 private:
  UniqueFd out_, err_;
};

v1::Output Lines(uint32_t rank, bool is_stderr, std::string text) {
  v1::Output output;
  output.set_rank(rank);
  output.set_is_stderr(is_stderr);
  output.set_text(std::move(text));
  return output;
}

class OutputWriterTest : public ::testing::Test {
 protected:
  OutputWriterTest() : loop_(*EventLoop::Create()) {
    folder_ = ::testing::TempDir() + "writer-XXXXXX";
    EXPECT_NE(::mkdtemp(folder_.data()), nullptr);
  }
  ~OutputWriterTest() override { std::filesystem::remove_all(folder_); }
  void Start(bool attached) {
    OutputWriterOptions options;
    options.attached = attached;
    options.job_folder = folder_;
    options.workers = 2;
    options.memory_bytes_max = memory_bytes_max_;
    options.spill_bytes_max = spill_bytes_max_;
    options.reader_stall_time = reader_stall_time_;
    options.marks = marks_;
    auto writer = OutputWriter::Create(loop_.get(), options, [this](bool hold) { holds_.push_back(hold); });
    ASSERT_TRUE(writer.ok()) << writer.status();
    writer_ = *std::move(writer);
  }
  bool RunUntil(const std::function<bool()>& done) {
    bool late = false;
    const auto deadline = loop_->After(absl::Seconds(60), [&] { late = true; });
    while (!late && !done()) {
      const auto tick = loop_->After(absl::Milliseconds(1), [this] { loop_->Quit(); });
      loop_->Run();
      loop_->Cancel(tick);
    }
    loop_->Cancel(deadline);
    return !late;
  }
  std::string Log(uint32_t rank, bool is_stderr) {
    std::ifstream file(LogKeeper::Path(folder_, rank, is_stderr));
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  std::string folder_;
  size_t memory_bytes_max_ = 8 << 20;
  int64_t spill_bytes_max_ = 1 << 20;
  absl::Duration reader_stall_time_ = absl::Seconds(2);
  LineMarks marks_;
  std::unique_ptr<EventLoop> loop_;
  std::vector<bool> holds_;
  std::unique_ptr<OutputWriter> writer_;
};

TEST_F(OutputWriterTest, DetachedOutputGoesToTheLogsAlone) {
  Streams streams;
  Start(false);
  writer_->Write(Lines(0, false, "out\n"));
  writer_->Write(Lines(1, true, "err\n"));
  bool flushed = false;
  writer_->Flush([&] { flushed = true; });
  ASSERT_TRUE(RunUntil([&] { return flushed; }));
  EXPECT_EQ(Log(0, false), "out\n");
  EXPECT_EQ(Log(1, true), "err\n");
  char byte;
  EXPECT_EQ(::read(streams.reader_.get(), &byte, 1), -1);
}

TEST_F(OutputWriterTest, AttachedOutputComesInOrderHoweverSlowItsReader) {
  Streams streams;
  Start(true);
  std::string all;
  for (int i = 0; i < 300; ++i) {
    const std::string text = std::to_string(i) + std::string(4000, 'x') + "\n";
    all += text;
    writer_->Write(Lines(static_cast<uint32_t>(i % 2), i % 3 == 0, text));
  }
  EXPECT_TRUE(holds_.empty()) << "it all has room in memory";
  std::string got;
  bool flushed = false;
  writer_->Flush([&] { flushed = true; });
  ASSERT_TRUE(RunUntil([&] {
    char buffer[8192];
    const ssize_t bytes = ::read(streams.reader_.get(), buffer, sizeof buffer);
    if (bytes > 0) got.append(buffer, static_cast<size_t>(bytes));
    return flushed && bytes <= 0;
  }));
  EXPECT_TRUE(got == all);
  EXPECT_EQ(writer_->lines_dropped(), 0u);
}

TEST_F(OutputWriterTest, AsksWorkersToWaitForASlowReader) {
  Streams streams;
  memory_bytes_max_ = 64 << 10;
  spill_bytes_max_ = 64 << 10;
  Start(true);
  const std::string line = std::string(999, 'x') + "\n";
  // Fills pipe, memory and spill file; a reader that has just read something is only slow.
  while (holds_.empty()) {
    char byte;
    (void)!::read(streams.reader_.get(), &byte, 1);
    writer_->Write(Lines(0, false, line));
  }
  EXPECT_EQ(holds_, std::vector<bool>({true}));
  EXPECT_TRUE(writer_->holding());
  ASSERT_TRUE(RunUntil([&] {
    char buffer[8192];
    (void)!::read(streams.reader_.get(), buffer, sizeof buffer);
    return !writer_->holding();
  }));
  EXPECT_EQ(holds_, std::vector<bool>({true, false}));
  EXPECT_EQ(writer_->lines_dropped(), 0u);
}

// D.5: a stalled terminal costs lines, never the workers' time beyond the rule.
TEST_F(OutputWriterTest, AStalledReaderCostsLinesAndHoldsNobody) {
  std::vector<std::string> warnings;
  SetLogSink([&warnings](LogLevel, absl::string_view line) { warnings.emplace_back(line); });
  Streams streams;
  memory_bytes_max_ = 64 << 10;
  spill_bytes_max_ = 64 << 10;
  reader_stall_time_ = absl::ZeroDuration();
  Start(true);
  constexpr int kLines = 2000;
  for (int i = 0; i < kLines; ++i) writer_->Write(Lines(3, false, absl::StrCat(i, " ", std::string(993, 'x'), "\n")));
  EXPECT_TRUE(holds_.empty());
  EXPECT_GT(writer_->lines_dropped(), 0u);
  std::string got;
  bool flushed = false;
  writer_->Flush([&] { flushed = true; });
  ASSERT_TRUE(RunUntil([&] {
    char buffer[8192];
    const ssize_t bytes = ::read(streams.reader_.get(), buffer, sizeof buffer);
    if (bytes > 0) got.append(buffer, static_cast<size_t>(bytes));
    return flushed && bytes <= 0;
  }));
  SetLogSink([](LogLevel, absl::string_view) {});
  const auto arrived = static_cast<uint64_t>(std::count(got.begin(), got.end(), '\n'));
  EXPECT_EQ(arrived + writer_->lines_dropped(), static_cast<uint64_t>(kLines));
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find(absl::StrCat("rank 3: ", writer_->lines_dropped())), std::string::npos) << warnings[0];
}

TEST_F(OutputWriterTest, MarksLinesForTheReaderAndNotInTheLogs) {
  Streams streams;
  marks_ = {.rank = true, .host = true, .ranks = 12};
  Start(true);
  v1::Output output = Lines(3, false, "one\ntwo\n");
  output.set_host("node-b");
  writer_->Write(output);
  char buffer[256];
  const ssize_t bytes = ::read(streams.reader_.get(), buffer, sizeof buffer);
  ASSERT_GT(bytes, 0);
  EXPECT_EQ(std::string(buffer, static_cast<size_t>(bytes)), " 3 node-b: one\n 3 node-b: two\n");
  EXPECT_EQ(Log(3, false), "one\ntwo\n");
}

TEST_F(OutputWriterTest, ALineOfSeveralMessagesIsNotTorn) {
  Streams streams;
  marks_.tag = true;
  Start(true);
  v1::Output part = Lines(0, false, "whole\nbeg");
  part.set_continues(true);
  writer_->Write(part);
  writer_->Write(Lines(1, false, "between\n"));
  part.set_text("u");
  writer_->Write(part);
  writer_->Write(Lines(0, false, "n\n"));
  part.set_text("lost agent");
  writer_->Write(part);
  bool flushed = false;
  writer_->Flush([&] { flushed = true; });
  ASSERT_TRUE(RunUntil([&] { return flushed; }));
  char buffer[256];
  const ssize_t bytes = ::read(streams.reader_.get(), buffer, sizeof buffer);
  ASSERT_GT(bytes, 0);
  EXPECT_EQ(std::string(buffer, static_cast<size_t>(bytes)),
            "[1,1]<stdout>:between\n[1,0]<stdout>:whole\n[1,0]<stdout>:begun\n[1,0]<stdout>:lost agent\n");
}

TEST_F(OutputWriterTest, SaysWhenNobodyReadsAnyMore) {
  Streams streams;
  Start(true);
  streams.reader_.Reset();
  writer_->Write(Lines(0, false, "for nobody\n"));
  EXPECT_TRUE(writer_->reader_gone());
  EXPECT_FALSE(writer_->write_failed());
  EXPECT_EQ(Log(0, false), "for nobody\n") << "the log keeps it";
}

}  // namespace
}  // namespace muster
