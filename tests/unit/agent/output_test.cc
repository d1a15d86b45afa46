// What of a worker's output reaches muster's reader, when, and in which shape.
#include <errno.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/log.h"
#include "tests/support/output/output_harness.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

void WriteAll(const UniqueFd& fd, const std::string& text) {
  for (size_t done = 0; done < text.size();) {
    const ssize_t bytes = write(fd.get(), text.data() + done, text.size() - done);
    ASSERT_GT(bytes, 0) << strerror(errno);
    done += static_cast<size_t>(bytes);
  }
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  EXPECT_EQ(lines.back(), "") << "ends within a line";
  lines.pop_back();
  return lines;
}

class OutputTest : public ::testing::Test, protected OutputHarness {};

TEST_F(OutputTest, PassesUntaggedBytesAsTheyAre) {
  Start({});
  UniqueFd out = Worker(0, OutputStream::kStdout), err = Worker(0, OutputStream::kStderr);
  const std::string bytes("one\r\n\0two\n\n\033[1mthree", 21);
  WriteAll(out, bytes);
  WriteAll(err, "to stderr\n");
  out.Reset();
  err.Reset();
  ASSERT_TRUE(ReadToTheEnd(1));
  EXPECT_EQ(this->out(), bytes);
  EXPECT_EQ(this->err(), "to stderr\n");
}

TEST_F(OutputTest, HoldsALineUntilItsEnd) {
  Start({});
  UniqueFd first = Worker(0, OutputStream::kStdout), second = Worker(1, OutputStream::kStdout);
  WriteAll(first, "begun ");
  forwarder_->Drain(0);
  WriteAll(second, "whole\n");
  ASSERT_TRUE(RunUntil([this] { return ReadOutput(OutputStream::kStdout) > 0; }));
  EXPECT_EQ(out(), "whole\n");
  WriteAll(first, "and ended\nlast");
  first.Reset();
  second.Reset();
  ASSERT_TRUE(ReadToTheEnd(2));
  EXPECT_EQ(out(), "whole\nbegun and ended\nlast");
}

TEST_F(OutputTest, PassesPartialLinesWhenAsked) {
  Start({.pass_partial_lines = true});
  UniqueFd out = Worker(0, OutputStream::kStdout);
  WriteAll(out, "name? ");
  ASSERT_TRUE(RunUntil([this] { return ReadOutput(OutputStream::kStdout) > 0; }));
  EXPECT_EQ(this->out(), "name? ");
}

TEST_F(OutputTest, TagsEachLine) {
  Start({.marks = {.tag = true}});
  UniqueFd out = Worker(3, OutputStream::kStdout), err = Worker(3, OutputStream::kStderr);
  WriteAll(out, "a\n\nb");
  WriteAll(err, "c\n");
  out.Reset();
  err.Reset();
  ASSERT_TRUE(ReadToTheEnd(4));
  EXPECT_EQ(this->out(), "[1,3]<stdout>:a\n[1,3]<stdout>:\n[1,3]<stdout>:b\n");
  EXPECT_EQ(this->err(), "[1,3]<stderr>:c\n");
}

TEST_F(OutputTest, StampsEachLine) {
  Start({.marks = {.tag = true, .timestamp = true}});
  UniqueFd worker = Worker(0, OutputStream::kStdout);
  WriteAll(worker, "a\n");
  worker.Reset();
  ASSERT_TRUE(ReadToTheEnd(1));
  tm parts = {};
  const char* rest = strptime(out().c_str(), "%a %b %e %H:%M:%S %Y", &parts);
  ASSERT_NE(rest, nullptr) << out();
  EXPECT_STREQ(rest, "[1,0]<stdout>:a\n");
  parts.tm_isdst = -1;
  EXPECT_LT(std::abs(difftime(time(nullptr), mktime(&parts))), 120);
}

TEST_F(OutputTest, DeliversLinesAndLeavesThemInThePipeWhileItMustWait) {
  std::vector<std::string> got;
  bool wait = true;
  OutputOptions options;
  options.marks.tag = true;
  options.deliver = [&](uint32_t rank, OutputStream which, absl::string_view text) {
    got.push_back(absl::StrCat(rank, which == OutputStream::kStdout ? " out " : " err ", text));
  };
  options.must_wait = [&] { return wait; };
  StartOn(std::move(options));
  UniqueFd out = Worker(2, OutputStream::kStdout), dead = Worker(3, OutputStream::kStderr);
  WriteAll(out, "first\nbeg");
  for (int round = 0; round < 20; ++round) Round();
  EXPECT_TRUE(got.empty());
  WriteAll(dead, "last words\n");
  forwarder_->Drain(3);
  EXPECT_THAT(got, ::testing::ElementsAre("3 err last words\n")) << "the dead are drained all the same";
  wait = false;
  ASSERT_TRUE(RunUntil([&] { return got.size() == 2; }));
  WriteAll(out, "un\n");
  ASSERT_TRUE(RunUntil([&] { return got.size() == 3; }));
  EXPECT_EQ(got[1], "2 out first\n");
  EXPECT_EQ(got[2], "2 out begun\n");
}

TEST_F(OutputTest, CutsVeryLongLines) {
  const std::string line(10'000, 'x');
  Start({.line_bytes_max = 1000});
  UniqueFd worker = Worker(0, OutputStream::kStdout);
  WriteAll(worker, line);
  ASSERT_TRUE(RunUntil([&, this] { return ReadOutput(OutputStream::kStdout) == 0 && out().size() == line.size(); }))
      << "passed on before its end";
  worker.Reset();
  ASSERT_TRUE(ReadToTheEnd(1));
  EXPECT_EQ(out(), line);
}

TEST_F(OutputTest, CutsVeryLongTaggedLinesIntoLines) {
  Start({.marks = {.tag = true}, .line_bytes_max = 1000});
  UniqueFd worker = Worker(0, OutputStream::kStdout);
  WriteAll(worker, std::string(2500, 'x') + "\nshort\n");
  worker.Reset();
  ASSERT_TRUE(ReadToTheEnd(1));
  const std::string tag = "[1,0]<stdout>:";
  EXPECT_EQ(out(), tag + std::string(1000, 'x') + "\n" + tag + std::string(1000, 'x') + "\n" + tag + std::string(500, 'x') +
                       "\n" + tag + "short\n");
}

TEST_F(OutputTest, SpillsWhatASlowReaderLeavesAndLosesNothing) {
  Start({.memory_bytes_max = 64 << 10, .spill_folder = ::testing::TempDir()});
  UniqueFd worker = Worker(0, OutputStream::kStdout);
  std::string written;
  for (int i = 0; i < 400'000; ++i) absl::StrAppend(&written, "line ", i, "\n");
  std::thread writer([&] {
    WriteAll(worker, written);  // not one byte is read by muster's reader until this is through
    worker.Reset();
  });
  ASSERT_TRUE(RunUntil([this] { return !forwarder_->HasStreams(0); }));
  writer.join();
  ASSERT_TRUE(ReadToTheEnd(1));
  EXPECT_TRUE(out() == written) << out().size() << " of " << written.size() << " bytes";
  EXPECT_EQ(forwarder_->lines_dropped(), 0u);
}

TEST_F(OutputTest, DropsWholeLinesBeyondTheBoundsAndCountsThem) {
  std::vector<std::string> warnings;
  SetLogSink([&warnings](LogLevel, absl::string_view line) { warnings.emplace_back(line); });
  Start({.memory_bytes_max = 64 << 10,
         .spill_bytes_max = 256 << 10,
         .spill_folder = ::testing::TempDir(),
         .reader_stall_time = absl::ZeroDuration()});
  UniqueFd worker = Worker(5, OutputStream::kStdout);
  constexpr int kLines = 200'000;
  std::string written;
  for (int i = 0; i < kLines; ++i) absl::StrAppend(&written, "line ", i, "\n");
  std::thread writer([&] {
    WriteAll(worker, written);
    worker.Reset();
  });
  ASSERT_TRUE(RunUntil([this] { return !forwarder_->HasStreams(5); }));
  writer.join();
  ASSERT_TRUE(ReadToTheEnd(6));
  SetLogSink([](LogLevel, absl::string_view) {});
  int previous = -1;
  size_t arrived = 0;
  for (const std::string& line : Lines(out())) {
    int number = -1;
    ASSERT_TRUE(absl::StartsWith(line, "line ") && absl::SimpleAtoi(line.substr(5), &number)) << "torn: " << line;
    ASSERT_GT(number, previous);
    previous = number;
    ++arrived;
  }
  EXPECT_GT(forwarder_->lines_dropped(), 0u);
  EXPECT_EQ(arrived + forwarder_->lines_dropped(), kLines);
  EXPECT_GE(out().size(), size_t{320} << 10) << "memory and spill were used";
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_THAT(warnings[0], HasSubstr(absl::StrCat("dropped ", forwarder_->lines_dropped(), " lines")));
  EXPECT_THAT(warnings[0], HasSubstr("rank 5"));
}

TEST_F(OutputTest, HoldsWorkersBackForAReaderThatIsOnlySlow) {
  for (const bool spill : {false, true}) {
    OutputHarness harness;
    harness.Start({.memory_bytes_max = 64 << 10,
                   .spill_bytes_max = 128 << 10,
                   .spill_folder = spill ? ::testing::TempDir() : "",
                   .reader_stall_time = absl::Minutes(10)});
    UniqueFd worker = harness.Worker(0, OutputStream::kStdout);
    std::string written;
    for (int i = 0; i < 150'000; ++i) absl::StrAppend(&written, "line ", i, "\n");
    std::thread writer([&] {
      WriteAll(worker, written);
      worker.Reset();
    });
    EXPECT_TRUE(harness.ReadToTheEnd(1));
    writer.join();
    EXPECT_TRUE(harness.out() == written) << harness.out().size() << " of " << written.size() << " bytes";
    EXPECT_EQ(harness.forwarder_->lines_dropped(), 0u);
  }
}

TEST_F(OutputTest, SurvivesAReaderThatGoesAway) {
  Start({});
  UniqueFd out = Worker(0, OutputStream::kStdout), err = Worker(0, OutputStream::kStderr);
  stdout_.read_end.Reset();
  WriteAll(out, "nobody reads this\n");
  ASSERT_TRUE(RunUntil([this] { return forwarder_->ReaderGone(OutputStream::kStdout); }));
  WriteAll(out, std::string(1000, '\n'));
  WriteAll(err, "but this\n");
  out.Reset();
  err.Reset();
  ASSERT_TRUE(ReadToTheEnd(1));
  EXPECT_FALSE(forwarder_->ReaderGone(OutputStream::kStderr));
  EXPECT_EQ(this->err(), "but this\n");
}

TEST_F(OutputTest, EveryLineOfAKilledWriterArrives) {
  Start({});
  UniqueFd worker = Worker(0, OutputStream::kStdout);
  void* shared = mmap(nullptr, sizeof(std::atomic<int>), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  auto* lines_written = new (shared) std::atomic<int>(0);
  const pid_t pid = fork();
  if (pid == 0) {
    for (int i = 0;; ++i) {
      char line[32];
      const int bytes = snprintf(line, sizeof line, "line %d\n", i);
      if (write(worker.get(), line, static_cast<size_t>(bytes)) != bytes) _exit(1);
      lines_written->store(i + 1);
    }
  }
  ASSERT_TRUE(RunUntil([&, this] {
    ReadOutput(OutputStream::kStdout);
    return lines_written->load() > 10'000;
  }));
  // The pipe fills up behind the killed writer's back; the test holds the write end, as a descendant would.
  kill(pid, SIGKILL);
  ASSERT_EQ(waitpid(pid, nullptr, 0), pid);
  forwarder_->Drain(0);
  const int written = lines_written->load();
  EXPECT_TRUE(forwarder_->HasStreams(0)) << "a descendant may still write";
  forwarder_->DrainAll();
  EXPECT_FALSE(forwarder_->HasStreams(0));
  ASSERT_TRUE(ReadToTheEnd(1));
  const std::vector<std::string> lines = Lines(out());
  ASSERT_GE(lines.size(), static_cast<size_t>(written));
  ASSERT_LE(lines.size(), static_cast<size_t>(written) + 1) << "counted after it was written";
  for (size_t i = 0; i < lines.size(); ++i) ASSERT_EQ(lines[i], absl::StrCat("line ", i));
  munmap(shared, sizeof(std::atomic<int>));
}

TEST_F(OutputTest, LeavesTheFlagsOfSharedDescriptorsAlone) {
  const int before = fcntl(stdout_.write_end.get(), F_GETFL);
  Start({});
  UniqueFd worker = Worker(0, OutputStream::kStdout);
  WriteAll(worker, "x\n");
  worker.Reset();
  ASSERT_TRUE(ReadToTheEnd(1));
  EXPECT_EQ(fcntl(stdout_.write_end.get(), F_GETFL), before);
  EXPECT_EQ(before & O_NONBLOCK, 0);
}

TEST_F(OutputTest, WritesFilesAtOnce) {
  std::string name = ::testing::TempDir() + "muster-output-XXXXXX";
  UniqueFd file(mkostemp(name.data(), O_CLOEXEC));
  ASSERT_TRUE(file.valid());
  StartOn({.stdout_fd = file.get(), .stderr_fd = file.get()});
  UniqueFd out = Worker(0, OutputStream::kStdout), err = Worker(0, OutputStream::kStderr);
  WriteAll(out, "out\n");
  forwarder_->Drain(0);
  WriteAll(err, "err\n");
  forwarder_->Drain(0);
  char text[16] = {};
  EXPECT_EQ(pread(file.get(), text, sizeof text, 0), 8);
  EXPECT_STREQ(text, "out\nerr\n");
  unlink(name.c_str());
}

TEST_F(OutputTest, KeepsWholeLinesWhereBothStreamsGoToOnePlace) {
  StartOn({.stdout_fd = stdout_.write_end.get(), .stderr_fd = stdout_.write_end.get()});
  UniqueFd out = Worker(0, OutputStream::kStdout), err = Worker(0, OutputStream::kStderr);
  std::string long_lines, short_lines;
  for (int i = 0; i < 50; ++i) long_lines += std::string(50'000, 'o') + "\n", short_lines += "e\n";
  std::thread writer([&] {
    WriteAll(out, long_lines);
    out.Reset();
  });
  WriteAll(err, short_lines);
  err.Reset();
  ASSERT_TRUE(ReadToTheEnd(1));
  writer.join();
  for (const std::string& line : Lines(this->out()))
    EXPECT_TRUE(line == "e" || line == std::string(50'000, 'o')) << line.size();
  EXPECT_EQ(this->out().size(), long_lines.size() + short_lines.size());
}

TEST_F(OutputTest, PtyPassesBytesAsTheyAreAndEnds) {
  // A terminal of 33 rows, to copy the size from.
  auto terminal = OpenOutputPty(-1);
  ASSERT_TRUE(terminal.ok()) << terminal.status();
  winsize size = {.ws_row = 33, .ws_col = 111};
  ASSERT_EQ(ioctl(terminal->our_end.get(), TIOCSWINSZ, &size), 0);
  auto pty = OpenOutputPty(terminal->worker_end.get());
  ASSERT_TRUE(pty.ok()) << pty.status();
  EXPECT_EQ(isatty(pty->worker_end.get()), 1);
  winsize copied = {};
  ASSERT_EQ(ioctl(pty->worker_end.get(), TIOCGWINSZ, &copied), 0);
  EXPECT_EQ(copied.ws_row, 33);
  EXPECT_EQ(copied.ws_col, 111);

  Start({});
  UniqueFd worker = std::move(pty->worker_end);
  ASSERT_TRUE(forwarder_->AddStream(0, OutputStream::kStdout, std::move(pty->our_end)).ok());
  WriteAll(worker, "line\nlast\tone\n");
  worker.Reset();
  ASSERT_TRUE(ReadToTheEnd(1));
  EXPECT_EQ(out(), "line\nlast\tone\n");
}

TEST_F(OutputTest, WritesToATerminalWithoutBlocking) {
  auto terminal = OpenOutputPty(-1);
  ASSERT_TRUE(terminal.ok()) << terminal.status();
  // Nobody reads the master: a blocking write would hang here for ever.
  StartOn({.stdout_fd = terminal->worker_end.get(), .stderr_fd = stderr_.write_end.get()});
  UniqueFd worker = Worker(0, OutputStream::kStdout);
  std::string written;
  for (int i = 0; i < 20'000; ++i) absl::StrAppend(&written, "line ", i, "\n");
  std::thread writer([&] {
    WriteAll(worker, written);
    worker.Reset();
  });
  ASSERT_TRUE(RunUntil([this] { return !forwarder_->HasStreams(0); }));
  writer.join();
  std::string read_back;
  bool flushed = false;
  forwarder_->Flush([&] { flushed = true; });
  fcntl(terminal->our_end.get(), F_SETFL, O_RDWR | O_NONBLOCK);
  ASSERT_TRUE(RunUntil([&] {
    char text[4096];
    for (ssize_t bytes; (bytes = read(terminal->our_end.get(), text, sizeof text)) > 0;)
      read_back.append(text, static_cast<size_t>(bytes));
    return flushed && read_back.size() >= written.size();
  }));
  EXPECT_TRUE(read_back == written);
}

TEST_F(OutputTest, PrintsLinesPerSecond) {
  for (const bool tag : {false, true}) {
    OutputHarness harness;
    harness.Start({.marks = {.tag = tag}, .memory_bytes_max = 64 << 20});  // the reader may lag, the figure is the forwarder's
    UniqueFd worker = harness.Worker(0, OutputStream::kStdout);
    constexpr int kLines = 400'000;
    std::string block;
    while (block.size() < 64'000) block += "step 1234 loss 2.3456 tokens per second 123456.7\n";
    const int lines_a_block = static_cast<int>(std::count(block.begin(), block.end(), '\n'));
    const auto begin = std::chrono::steady_clock::now();
    std::thread writer([&] {
      for (int lines = 0; lines < kLines; lines += lines_a_block) WriteAll(worker, block);
      worker.Reset();
    });
    ASSERT_TRUE(harness.ReadToTheEnd(1));
    writer.join();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const auto lines = std::count(harness.out().begin(), harness.out().end(), '\n');
    EXPECT_GE(lines, kLines);
    EXPECT_EQ(harness.forwarder_->lines_dropped(), 0u);
    printf("%s: %.0f lines/s, writer and reader on the same machine\n", tag ? "tagged" : "untagged",
           static_cast<double>(lines) / seconds);
  }
}

}  // namespace
}  // namespace muster
