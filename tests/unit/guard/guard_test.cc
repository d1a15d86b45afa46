// Spawning through the real muster-guard: what a worker is given, and what is said when it cannot be started.
#include <errno.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "launcher/agent/output.h"
#include "launcher/guard/cover.h"
#include "tests/support/guard/guard_fixture.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class GuardTest : public GuardFixture {
 protected:
  void SetUp() override {
    GuardFixture::SetUp();
    StartGuard();
  }
  // Runs one program to its end.
  const WorkerSeen& RunWorker(SpawnRequest request) {
    const uint32_t slot = request.slot;
    guard_->Spawn(std::move(request));
    EXPECT_TRUE(RunUntilEnded(slot));
    return seen_[slot];
  }
  const WorkerSeen& RunWorker(std::vector<std::string> argv) { return RunWorker(Request(next_slot_++, std::move(argv))); }
  uint32_t next_slot_ = 0;
};

std::string MakeFile(const std::string& name, const std::string& text, mode_t mode) {
  const std::string path = absl::StrCat(::testing::TempDir(), "muster-guard-test-", getpid(), "-", name);
  std::ofstream(path) << text;
  chmod(path.c_str(), mode);
  return path;
}

TEST_F(GuardTest, ReportsExitCodes) {
  EXPECT_EQ(RunWorker({"/bin/true"}).wait_status, 0);
  const int code = WEXITSTATUS(RunWorker({"/bin/false"}).wait_status);
  EXPECT_EQ(code, 1);
  EXPECT_EQ(WEXITSTATUS(RunWorker({"/bin/sh", "-c", "exit 37"}).wait_status), 37);
  EXPECT_EQ(WTERMSIG(RunWorker({"/bin/sh", "-c", "kill -SEGV $$"}).wait_status), SIGSEGV);
}

TEST_F(GuardTest, NamesTheStageThatFailed) {
  const WorkerSeen& missing = RunWorker({"/nowhere/at-all"});
  EXPECT_EQ(missing.error, ENOENT);
  EXPECT_EQ(missing.stage, "execve /nowhere/at-all");
  EXPECT_EQ(missing.pid, -1);

  const std::string plain = MakeFile("plain", "#!/bin/sh\n", 0644);
  EXPECT_EQ(RunWorker({plain}).error, EACCES);
  const std::string no_format = MakeFile("no-format", "no program", 0755);
  EXPECT_EQ(RunWorker({no_format}).error, ENOEXEC);
  unlink(plain.c_str());
  unlink(no_format.c_str());

  SpawnRequest bad_folder = Request(100, {"/bin/true"});
  bad_folder.working_directory = "/nowhere";
  EXPECT_EQ(RunWorker(std::move(bad_folder)).error, ENOENT);
  EXPECT_EQ(seen_[100].stage, "chdir /nowhere");

  SpawnRequest no_terminal = Request(101, {"/bin/true"});
  no_terminal.controlling_terminal = true;  // but its stdout is a pipe
  EXPECT_EQ(RunWorker(std::move(no_terminal)).error, ENOTTY);
  EXPECT_EQ(seen_[101].stage, "controlling terminal");

  SpawnRequest too_large = Request(102, {"/bin/true"});
  too_large.env.push_back("BIG=" + std::string(17 << 20, 'x'));
  EXPECT_EQ(RunWorker(std::move(too_large)).error, E2BIG);

  EXPECT_EQ(RunWorker({"/bin/true"}).wait_status, 0) << "the guard lives on";
}

TEST_F(GuardTest, HandsOverArgumentsAndEnvironmentAsTheyAre) {
  SpawnRequest request = Request(0, {"/usr/bin/env", "-0"});
  request.env = {"PLAIN=1", "EMPTY=", "SPACES= a  b ", "NEWLINE=a\nb", "SHELL_WORDS=$(id) `id` ; * \" '"};
  const std::vector<std::string> expected = request.env;
  std::vector<std::string> lines = absl::StrSplit(RunWorker(std::move(request)).output, '\0');
  ASSERT_FALSE(lines.empty());
  EXPECT_EQ(lines.back(), "");
  lines.pop_back();
  EXPECT_EQ(lines, expected);

  EXPECT_EQ(RunWorker(Request(1, {"/usr/bin/printf", "[%s]", "", "$(id)", "a b\n", "*"})).output, "[][$(id)][a b\n][*]");
  SpawnRequest named = Request(2, {"/bin/sh", "-c", "pwd"});
  named.working_directory = "/usr";
  EXPECT_EQ(RunWorker(std::move(named)).output, "/usr\n");
}

TEST_F(GuardTest, BindsToProcessorsAndTheirMemory) {
  cpu_set_t own;
  ASSERT_EQ(sched_getaffinity(0, sizeof own, &own), 0);
  int last = CPU_SETSIZE - 1;
  while (!CPU_ISSET(last, &own)) --last;
  SpawnRequest bound = Request(0, {"/bin/sh", "-c", "grep Cpus_allowed_list /proc/self/status | cut -f2"});
  bound.cpus = std::to_string(last);
  bound.memory_nodes = "0";
  EXPECT_EQ(RunWorker(std::move(bound)).output, absl::StrCat(last, "\n"));

  SpawnRequest nowhere = Request(1, {"/bin/true"});
  nowhere.cpus = "65000";  // within what a list may hold, beyond what a machine has
  EXPECT_EQ(RunWorker(std::move(nowhere)).error, EINVAL);
  EXPECT_EQ(seen_[1].stage, "binding to processors 65000");

  SpawnRequest anyhow = Request(2, {"/bin/true"});
  anyhow.cpus = "65000";
  anyhow.binding_is_optional = true;
  EXPECT_EQ(RunWorker(std::move(anyhow)).wait_status, 0);

  SpawnRequest no_list = Request(3, {"/bin/true"});
  no_list.cpus = "3-";
  EXPECT_EQ(RunWorker(std::move(no_list)).error, EINVAL);
}

TEST_F(GuardTest, CarriesMegabytesOfArguments) {
  SpawnRequest request = Request(0, {"/bin/sh", "-c", "echo $#", "sh"});
  for (int i = 0; i < 12; ++i) request.argv.push_back(std::string(100'000, 'a' + i));
  EXPECT_EQ(RunWorker(std::move(request)).output, "12\n");
}

TEST_F(GuardTest, LeaksNoDescriptor) {
  // The fourth is the folder that ls itself reads.
  EXPECT_EQ(RunWorker({"/bin/ls", "-1", "/proc/self/fd"}).output, "0\n1\n2\n3\n");
}

TEST_F(GuardTest, StartsWithDefaultSignals) {
  ASSERT_NE(signal(SIGPIPE, SIG_IGN), SIG_ERR);
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
  const std::string output = RunWorker({"/bin/grep", "-E", "SigBlk|SigIgn", "/proc/self/status"}).output;
  pthread_sigmask(SIG_UNBLOCK, &blocked, nullptr);
  EXPECT_THAT(std::vector<std::string>(absl::StrSplit(output, '\n', absl::SkipEmpty())),
              ElementsAre("SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"));
}

TEST_F(GuardTest, PidAndPidfdAreTheWorkers) {
  guard_->Spawn(Request(0, {"/bin/cat", "/proc/self/stat", "/dev/zero"}));
  ASSERT_TRUE(RunUntil([this] { return seen_[0].pid > 0; }));
  EXPECT_EQ(kill(seen_[0].pid, 0), 0);
  EXPECT_NE(getpgid(seen_[0].pid), getpgrp());
  EXPECT_NE(getpgid(seen_[0].pid), getpgid(guard_->pid()));
  EXPECT_NE(getpgid(guard_->pid()), getpgrp());
  ASSERT_EQ(kill(seen_[0].pid, SIGKILL), 0);
  ASSERT_TRUE(RunUntil([this] { return seen_[0].ended; }));
  EXPECT_EQ(WTERMSIG(seen_[0].wait_status), SIGKILL);
  pollfd ended = {.fd = seen_[0].pidfd.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&ended, 1, 0), 1);
}

TEST_F(GuardTest, SignalsTheWorkersGroup) {
  guard_->Spawn(Request(0, {"/bin/sh", "-c", "sleep 600 & echo up; wait"}));
  ASSERT_TRUE(RunUntil([this] { return seen_[0].output == "up\n"; }));
  guard_->Signal(0, SIGTERM);
  ASSERT_TRUE(RunUntilEnded(0)) << "the sleep, which holds the pipe, was not signalled";
  EXPECT_EQ(WTERMSIG(seen_[0].wait_status), SIGTERM);
}

TEST_F(GuardTest, GivesAPtyAsControllingTerminal) {
  auto pty = OpenOutputPty(-1);
  ASSERT_TRUE(pty.ok()) << pty.status();
  SpawnRequest request = Request(0, {"/bin/sh", "-c", "echo tty >/dev/tty && exit 9"});
  request.stdout_fd = std::move(pty->worker_end);
  request.controlling_terminal = true;
  guard_->Spawn(std::move(request));
  ASSERT_TRUE(RunUntil([this] { return seen_[0].ended; }));
  EXPECT_EQ(seen_[0].error, 0) << seen_[0].stage;
  EXPECT_EQ(WEXITSTATUS(seen_[0].wait_status), 9);
  char text[16] = {};
  EXPECT_EQ(read(pty->our_end.get(), text, sizeof text), 4);
  EXPECT_STREQ(text, "tty\n");
}

TEST_F(GuardTest, ServesAgainAfterEndTree) {
  for (uint32_t slot = 0; slot < 8; ++slot) guard_->Spawn(Request(slot, {"/bin/sleep", "600"}));
  guard_->EndTree();
  ASSERT_TRUE(RunUntil([this] { return tree_ended_; }));
  for (uint32_t slot = 0; slot < 8; ++slot) {
    EXPECT_TRUE(seen_[slot].ended) << slot;
    EXPECT_EQ(WTERMSIG(seen_[slot].wait_status), SIGKILL) << slot;
  }
  EXPECT_EQ(RunWorker(Request(8, {"/bin/true"})).wait_status, 0);
}

TEST_F(GuardTest, TakesManyRequestsAtOnce) {
  // More than the socket holds in either direction, so both sides must go on reading.
  constexpr uint32_t kWorkers = 500;
  rlimit files = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &files), 0);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  for (uint32_t slot = 0; slot < kWorkers; ++slot) guard_->Spawn(Request(slot, {slot % 2 == 0 ? "/bin/true" : "/nowhere"}));
  for (uint32_t slot = 0; slot < kWorkers; ++slot) {
    ASSERT_TRUE(RunUntil([this, slot] { return seen_[slot].ended; })) << slot;
    EXPECT_EQ(seen_[slot].error, slot % 2 == 0 ? 0 : ENOENT) << slot;
  }
}

TEST_F(GuardTest, RemovesTheSessionFolderAtItsEnd) {
  guard_.reset();
  std::string folder = ::testing::TempDir() + "muster-guard-session-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  StartGuard(folder);
  std::string outside = MakeFile("outside", "kept", 0644);
  SpawnRequest request =
      Request(0, {"/bin/sh", "-c", "mkdir -p a/b && echo x >a/b/c && ln -s " + outside + " a/link && ln -s / a/root"});
  request.working_directory = folder;
  EXPECT_EQ(RunWorker(std::move(request)).wait_status, 0);
  guard_.reset();
  EXPECT_NE(access(folder.c_str(), F_OK), 0);
  EXPECT_EQ(access(outside.c_str(), F_OK), 0) << "a link was followed";
  unlink(outside.c_str());
}

TEST_F(GuardTest, ProbeAgreesWithTheGuard) {
  const CoverReport report = ProbeTreeCover();
  EXPECT_EQ(report.cover, guard_->cover());
  EXPECT_FALSE(report.reason.empty());
}

TEST_F(GuardTest, OneThatIsFinishedEndsItsTreeByItself) {
  guard_->Spawn(Request(0, {"/bin/sleep", "1000"}));
  ASSERT_TRUE(RunUntil([this] { return seen_[0].pidfd.valid(); }));
  guard_->Finish();
  guard_->Signal(0, SIGTERM);  // to nobody any more
  pollfd ended = {seen_[0].pidfd.get(), POLLIN, 0};
  EXPECT_EQ(poll(&ended, 1, 60'000), 1);
  guard_.reset();
  EXPECT_FALSE(lost_);
}

TEST(GuardStartTest, OneThatNobodyUsesEndsAndRemovesItsFolder) {
  std::string folder = ::testing::TempDir() + "muster-guard-unused-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  {
    const auto begun = GuardClient::Begin(MUSTER_GUARD_PATH, folder);
    ASSERT_TRUE(begun.ok()) << begun.status();
  }
  EXPECT_NE(access(folder.c_str(), F_OK), 0);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST(GuardStartTest, SaysWhyAGuardCannotStart) {
  auto loop = EventLoop::Create();
  ASSERT_TRUE(loop.ok());
  const auto missing = GuardClient::Start(loop->get(), "/nowhere/muster-guard", "", {});
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound) << missing.status();
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("/nowhere/muster-guard"));
  const auto other = GuardClient::Start(loop->get(), "/bin/true", "", {});
  EXPECT_EQ(other.status().code(), absl::StatusCode::kInternal) << other.status();
}

}  // namespace
}  // namespace muster
