// muster's stdin on its way to rank 0: files, pipes, terminals, and workers that do not read.
#include "launcher/agent/stdin_forwarder.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include <string>
#include <thread>

#include "launcher/agent/output.h"
#include "tests/support/output/output_harness.h"

namespace muster {
namespace {

class StdinForwarderTest : public ::testing::Test, protected OutputHarness {
 protected:
  void Forward(int source) {
    auto pipe = OpenStdinPipe();
    ASSERT_TRUE(pipe.ok()) << pipe.status();
    worker_ = std::move(pipe->worker_end);
    fcntl(worker_.get(), F_SETFL, O_RDONLY | O_NONBLOCK);
    auto stdin_forwarder = StdinForwarder::Start(loop_.get(), source, std::move(pipe->our_end));
    ASSERT_TRUE(stdin_forwarder.ok()) << stdin_forwarder.status();
    stdin_ = *std::move(stdin_forwarder);
  }
  // What the worker reads until its end of file.
  std::string ReadAll() {
    std::string text;
    EXPECT_TRUE(RunUntil([&] { return ReadSome(&text) == 0; }));
    return text;
  }
  // As read(2).
  ssize_t ReadSome(std::string* text) {
    char buffer[8192];
    const ssize_t bytes = read(worker_.get(), buffer, sizeof buffer);
    if (bytes > 0) text->append(buffer, static_cast<size_t>(bytes));
    return bytes;
  }
  UniqueFd worker_;
  std::unique_ptr<StdinForwarder> stdin_;
};

std::string Megabytes(size_t count) {
  std::string text;
  for (size_t i = 0; text.size() < count << 20; ++i) text += std::to_string(i) + "\n";
  return text;
}

TEST_F(StdinForwarderTest, ForwardsAFileToItsEnd) {
  std::string name = ::testing::TempDir() + "muster-stdin-XXXXXX";
  UniqueFd file(mkostemp(name.data(), O_CLOEXEC));
  unlink(name.c_str());
  const std::string text = Megabytes(1);
  ASSERT_EQ(write(file.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  ASSERT_EQ(lseek(file.get(), 0, SEEK_SET), 0);
  Forward(file.get());
  EXPECT_TRUE(ReadAll() == text);
  EXPECT_FALSE(stdin_->active());
}

TEST_F(StdinForwarderTest, ForwardsAPipeToItsEndAndLeavesItsFlags) {
  auto source = OpenOutputPipe();
  ASSERT_TRUE(source.ok());
  Forward(source->our_end.get());
  EXPECT_EQ(fcntl(source->our_end.get(), F_GETFL) & O_NONBLOCK, 0);
  const std::string text = Megabytes(1);
  std::thread writer([&] {
    for (size_t done = 0; done < text.size();) {
      const ssize_t bytes = write(source->worker_end.get(), text.data() + done, text.size() - done);
      ASSERT_GT(bytes, 0);
      done += static_cast<size_t>(bytes);
    }
    source->worker_end.Reset();
  });
  EXPECT_TRUE(ReadAll() == text);
  writer.join();
}

TEST_F(StdinForwarderTest, DevNullEndsAtOnce) {
  auto null = OpenEmptyStdin();
  ASSERT_TRUE(null.ok());
  Forward(null->get());
  EXPECT_EQ(ReadAll(), "");
}

TEST_F(StdinForwarderTest, AWorkerThatDoesNotReadHoldsUpTheSourceOnly) {
  auto source = OpenOutputPipe();
  ASSERT_TRUE(source.ok());
  Forward(source->our_end.get());
  fcntl(source->worker_end.get(), F_SETFL, O_WRONLY | O_NONBLOCK);
  const std::string block(4096, 'x');
  size_t written = 0;
  // Until nobody takes any more: two pipes and what the forwarder holds.
  int refused = 0;
  ASSERT_TRUE(RunUntil([&] {
    const ssize_t bytes = write(source->worker_end.get(), block.data(), block.size());
    refused = bytes > 0 ? 0 : refused + 1;
    if (bytes > 0) written += static_cast<size_t>(bytes);
    return refused > 20;
  }));
  EXPECT_LE(written, size_t{4 * 64} << 10);
  source->worker_end.Reset();
  EXPECT_EQ(ReadAll().size(), written);
}

TEST_F(StdinForwarderTest, AWorkerThatClosesItsStdinEndsIt) {
  auto source = OpenOutputPipe();
  ASSERT_TRUE(source.ok());
  Forward(source->our_end.get());
  worker_.Reset();
  EXPECT_TRUE(RunUntil([this] { return !stdin_->active(); }));
}

// muster in the background of a terminal, then in the foreground. Runs in a child that is the session's leader: 0 if all went
// well, else the number of the step that did not.
int TerminalSession(const std::string& name, EventLoop* loop) {
  if (setsid() < 0) return 1;
  UniqueFd terminal(open(name.c_str(), O_RDWR | O_CLOEXEC));  // becomes the controlling terminal
  if (!terminal || tcgetpgrp(terminal.get()) != getpgrp()) return 2;
  auto pipe = OpenStdinPipe();
  if (!pipe.ok()) return 3;
  // Another group in the foreground: this process is now a background job, and a plain read would stop it.
  const pid_t other = fork();
  if (other == 0) {
    setpgid(0, 0);
    pause();
    _exit(0);
  }
  setpgid(other, other);
  signal(SIGTTOU, SIG_IGN);
  if (tcsetpgrp(terminal.get(), other) != 0) return 4;
  auto forwarder = StdinForwarder::Start(loop, terminal.get(), std::move(pipe->our_end));
  if (!forwarder.ok()) return 5;
  fcntl(pipe->worker_end.get(), F_SETFL, O_RDONLY | O_NONBLOCK);
  const auto rounds = [&](absl::Duration length) {
    loop->After(length, [&] { loop->Quit(); });
    loop->Run();
  };
  char text[64] = {};
  rounds(absl::Milliseconds(50));
  if (read(pipe->worker_end.get(), text, sizeof text) > 0) return 6;  // read in the background
  if (tcsetpgrp(terminal.get(), getpgrp()) != 0) return 7;
  for (int i = 0; i < 100 && read(pipe->worker_end.get(), text, sizeof text) <= 0; ++i) rounds(absl::Milliseconds(50));
  kill(other, SIGKILL);
  waitpid(other, nullptr, 0);
  return strcmp(text, "typed\n") == 0 ? 0 : 8;
}

TEST_F(StdinForwarderTest, ATerminalIsReadInTheForegroundOnly) {
  UniqueFd master(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  ASSERT_TRUE(master.valid());
  ASSERT_EQ(grantpt(master.get()), 0);
  ASSERT_EQ(unlockpt(master.get()), 0);
  const std::string name = ptsname(master.get());
  // Held open, so that what is typed before the session begins is kept.
  UniqueFd held(open(name.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
  ASSERT_EQ(write(master.get(), "typed\n", 6), 6);
  const pid_t pid = fork();
  if (pid == 0) _exit(TerminalSession(name, loop_.get()));
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
  EXPECT_FALSE(WIFSTOPPED(status)) << "stopped by signal " << WSTOPSIG(status);
  if (WIFSTOPPED(status)) kill(pid, SIGKILL);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(StdinForwarderTest, FeedsPieceByPieceAndSaysWhenTheWorkerHasClosed) {
  auto pipe = OpenStdinPipe();
  ASSERT_TRUE(pipe.ok()) << pipe.status();
  worker_ = std::move(pipe->worker_end);
  fcntl(worker_.get(), F_SETFL, O_RDONLY | O_NONBLOCK);
  int taken = 0, closed = 0;
  auto fed = FedStdin::Start(loop_.get(), std::move(pipe->our_end), [&](bool is_closed) { ++(is_closed ? closed : taken); });
  ASSERT_TRUE(fed.ok()) << fed.status();
  const std::string text = Megabytes(1);
  (*fed)->Feed(text, false);
  for (int round = 0; round < 5; ++round) Round();
  EXPECT_EQ(taken, 0) << "the pipe is full";
  std::string got;
  ASSERT_TRUE(RunUntil([&] { return ReadSome(&got) < 0 && taken == 1; }));
  EXPECT_TRUE(got == text);
  (*fed)->Feed("last", true);
  EXPECT_EQ(ReadAll(), "last");
  ASSERT_TRUE(RunUntil([&] { return taken == 2; }));
  worker_.Reset();
  (*fed)->Feed("nobody reads", false);
  ASSERT_TRUE(RunUntil([&] { return closed == 1; }));
}

TEST_F(StdinForwarderTest, FeedingIsOverWhenTheWorkerClosesItsEnd) {
  auto pipe = OpenStdinPipe();
  ASSERT_TRUE(pipe.ok()) << pipe.status();
  int taken = 0, closed = 0;
  auto fed = FedStdin::Start(loop_.get(), std::move(pipe->our_end), [&](bool is_closed) { ++(is_closed ? closed : taken); });
  ASSERT_TRUE(fed.ok()) << fed.status();
  (*fed)->Feed(Megabytes(1), false);
  pipe->worker_end.Reset();
  ASSERT_TRUE(RunUntil([&] { return closed == 1; }));
  EXPECT_EQ(taken, 0);
}

}  // namespace
}  // namespace muster
