// What is kept of a job: its folder, its status and events, its logs, on a folder of the test's own.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/job/job_files.h"
#include "launcher/job/job_folder.h"
#include "launcher/job/job_list.h"
#include "launcher/job/log_keeper.h"
#include "launcher/job/write_file.h"
#include "runtime/base/log.h"

namespace muster {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

class Job : public ::testing::Test {
 protected:
  Job() {
    std::string name = (fs::temp_directory_path() / "muster-test-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    SetLogSink([this](LogLevel, absl::string_view line) { warnings_.emplace_back(line); });
  }
  ~Job() override {
    SetLogSink([](LogLevel, absl::string_view) {});
    fs::remove_all(folder_);
  }

  static std::string Read(const std::string& path) {
    std::ifstream file(path);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }

  std::string folder_;
  std::vector<std::string> warnings_;
};

TEST_F(Job, StateGoesWhereTheUserKeepsIt) {
  bool fallback = false;
  EXPECT_EQ(StateHome("/state", "/home/u", "/tmp", &fallback), "/state");
  EXPECT_EQ(StateHome("", "/home/u", "/tmp", &fallback), "/home/u/.local/state");
  EXPECT_EQ(StateHome("relative", "/home/u", "/tmp", &fallback), "/home/u/.local/state");
  EXPECT_FALSE(fallback);
  EXPECT_THAT(StateHome(std::nullopt, std::nullopt, "/tmp", &fallback), HasSubstr("/tmp/muster-state-"));
  EXPECT_TRUE(fallback);
}

TEST_F(Job, TheNewestTwentyJobsAreKeptAndRunningOnesAnyway) {
  const auto id = [](int number) { return absl::StrFormat("%032x", number); };
  auto running = JobFolder::Create(folder_, id(0));
  ASSERT_TRUE(running.ok()) << running.status();
  fs::create_directory(folder_ + "/muster/notes-of-the-user");
  for (int i = 1; i <= 2 * kJobFoldersKept; ++i) {
    const auto job = JobFolder::Create(folder_, id(i));
    ASSERT_TRUE(job.ok()) << job.status();
    (*job)->RemoveOlder();
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

TEST_F(Job, AJobFolderThatCannotBeMadeNamesPathAndRemedy) {
  std::ofstream(folder_ + "/file") << "in the way";
  const auto job = JobFolder::Create(folder_ + "/file", std::string(32, 'a'));
  ASSERT_FALSE(job.ok());
  EXPECT_THAT(std::string(job.status().message()), HasSubstr(folder_ + "/file/muster"));
  EXPECT_THAT(std::string(job.status().message()), HasSubstr("XDG_STATE_HOME"));
}

TEST_F(Job, AReportIsReplacedAsAWhole) {
  const std::string path = folder_ + "/report.json";
  ASSERT_TRUE(WriteFile(path, "a long first text").ok());
  ASSERT_TRUE(WriteFile(path, "short").ok());
  std::ifstream file(path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "short");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 1);
  EXPECT_TRUE(WriteFile("/dev/null", "text").ok());
  EXPECT_FALSE(WriteFile(folder_ + "/no/such/folder", "text").ok());
}

TEST_F(Job, AFolderSaysWhoRunsTheJobAndItsLockIsInherited) {
  auto made = JobFolder::Create(folder_, std::string(32, 'a'));
  ASSERT_TRUE(made.ok()) << made.status();
  const std::string path = (*made)->path();
  EXPECT_EQ(Read(path + "/lock"), absl::StrCat(::getpid(), "\n"));
  UniqueFd copy(::dup((*made)->lock_fd()));
  made->reset();
  UniqueFd other(::open((path + "/lock").c_str(), O_RDONLY));
  EXPECT_NE(::flock(other.get(), LOCK_SH | LOCK_NB), 0);  // the copy holds it
  auto adopted = JobFolder::Adopt(path, std::move(copy));
  ASSERT_TRUE(adopted.ok()) << adopted.status();
  EXPECT_NE(::fcntl((*adopted)->lock_fd(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_NE(::flock(other.get(), LOCK_SH | LOCK_NB), 0);
  adopted->reset();
  EXPECT_EQ(::flock(other.get(), LOCK_SH | LOCK_NB), 0);
  EXPECT_EQ(JobFolder::Adopt(path, UniqueFd(::open("/dev/null", O_RDWR))).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(Job, OneThatNobodyRunsAnyMoreIsTakenUpByWhoeverSaysItsName) {
  EXPECT_FALSE(FindUnfinished(folder_, "u-1").has_value());
  auto made = JobFolder::Create(folder_, std::string(32, 'a'));
  const std::string path = (*made)->path();
  ASSERT_TRUE(WriteFile(path + "/same-job", "u-1\n").ok());
  ASSERT_TRUE(JobFolder::Create(folder_, std::string(32, 'b')).ok());  // of nobody's name
  EXPECT_FALSE(FindUnfinished(folder_, "u-2").has_value());
  const auto found = FindUnfinished(folder_, "u-1");
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->folder, path);
  // The lock says who runs it, and the verdict that it is over.
  EXPECT_TRUE(absl::IsFailedPrecondition(JobFolder::TakeUp(path).status()));
  made->reset();
  auto taken = JobFolder::TakeUp(path);
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_TRUE(IsHeld(path));
  EXPECT_EQ((*taken)->path(), path);
  ASSERT_TRUE(WriteFile(path + "/verdict.json", "{\"exit_code\": 0}").ok());
  EXPECT_FALSE(FindUnfinished(folder_, "u-1").has_value());
}

TEST_F(Job, ACommandIsWrittenAsAShellTakesIt) {
  EXPECT_EQ(CommandText({"./train", "--lr=0.1", "a b", "it's", ""}), "./train --lr=0.1 'a b' 'it'\\''s' ''");
  EXPECT_THAT(CommandText({"echo", "two\nlines"}), Not(HasSubstr("\n")));
}

JobStatus SomeStatus() {
  JobStatus status;
  status.job_id = std::string(32, 'c');
  status.command = "./train \xff";  // no UTF-8
  status.state = "running";
  status.started_unix_ms = 1'700'000'000'000;
  status.workers = 4;
  status.agents_join = true;
  status.generation = 3;
  status.restarts = 2;
  status.committed_step = 41;
  status.nodes = {{0, "node0", "10.0.0.1", "up"}, {1, "node1", "10.0.0.2", "lost"}};
  status.ranks = {{0, 0, "node0", "running"}};
  status.history = {{1'700'000'000'500, 2, 40, "rank 1 (node1) was killed by SIGKILL"}};
  status.nccl = {"NCCL on node0, node1 is told NCCL_CROSS_NIC=0: why"};
  status.nccl_notes = {"a doubt", "another"};
  status.refused = {{1'700'000'000'700, "host b", "wrong key", "10.0.0.9:5000", 2, "host b turned away wrong key"}};
  return status;
}

TEST_F(Job, StatusAndEventsComeBackFromTheirText) {
  const auto status = ParseStatus(StatusJson(SomeStatus()));
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(StatusJson(*status), StatusJson(SomeStatus()));
  EXPECT_EQ(status->nodes[1].state, "lost");
  EXPECT_EQ(status->nccl, SomeStatus().nccl);
  EXPECT_EQ(status->nccl_notes, SomeStatus().nccl_notes);
  EXPECT_TRUE(status->agents_join);
  EXPECT_EQ(status->history[0].step, 40);
  EXPECT_EQ(status->checkpoint_step, -1);
  EXPECT_EQ(ParseStatus("{\"state\": 7, \"workers\": \"x\", \"ranks\": [1], \"nccl\": [1], \"new\": {}}")->state, "starting");
  EXPECT_EQ(ParseStatus("{\"state\": \"run").status().code(), absl::StatusCode::kDataLoss);

  JobEvent event;
  event.when = absl::FromUnixMillis(1'700'000'000'123);
  event.kind = "restarting";
  event.text = "a\nb";
  event.rank = 0;
  EXPECT_THAT(EventJson(event), Not(HasSubstr("\n")));
  const auto back = ParseEvent(EventJson(event));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(EventJson(*back), EventJson(event));
  EXPECT_EQ(back->rank, 0);
  EXPECT_EQ(back->node, -1);
}

TEST_F(Job, AStatusThatChangesOftenIsWrittenNowAndThenAndAtTheEnd) {
  auto loop = EventLoop::Create();
  ASSERT_TRUE(loop.ok());
  const std::string path = folder_ + "/status.json";
  {
    JobFiles files(loop->get(), folder_);
    JobStatus status = SomeStatus();
    files.Show(status);
    const std::string first = Read(path);
    EXPECT_THAT(first, HasSubstr("\"committed_step\": 41"));
    for (int step = 42; step < 1000; ++step) {
      status.committed_step = step;
      files.Show(status);
    }
    EXPECT_EQ(Read(path), first);
    // The timer writes it too: the loop runs until it has.
    std::function<void()> look = [&] {
      if (Read(path) != first) return (*loop)->Quit();
      (*loop)->After(absl::Milliseconds(5), look);
    };
    look();
    (*loop)->Run();
    EXPECT_THAT(Read(path), HasSubstr("\"committed_step\": 999"));
    status.committed_step = 1000;
    files.Show(status);
  }
  EXPECT_THAT(Read(path), HasSubstr("\"committed_step\": 1000"));
  EXPECT_THAT(warnings_, SizeIs(0));
}

TEST_F(Job, EventsAreAppendedUpToABound) {
  auto loop = EventLoop::Create();
  JobEvent event;
  event.kind = "note";
  event.text = std::string(1 << 20, 'x');
  {
    JobFiles files(loop->get(), folder_);
    for (int i = 0; i < 12; ++i) files.Happened(event);
  }
  const std::string text = Read(folder_ + "/events.jsonl");
  EXPECT_LE(text.size(), static_cast<size_t>(JobFiles::kEventsBytesMax) + 200);
  const std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  EXPECT_EQ(lines.size(), 8u);
  EXPECT_EQ(ParseEvent(lines.back())->kind, "dropped");
}

TEST_F(Job, FilesThatCannotBeWrittenAreWarnedOfOnce) {
  auto loop = EventLoop::Create();
  JobFiles files(loop->get(), folder_ + "/missing");
  files.Happened({});
  files.Show(SomeStatus());
  files.Flush();
  ASSERT_THAT(warnings_, SizeIs(1));
  EXPECT_THAT(warnings_[0], HasSubstr("the job goes on"));
}

TEST_F(Job, LogsKeepTheNewestOutputOfEachStream) {
  LogLimits limits;
  limits.stream_bytes_max = 64 << 10;
  LogKeeper logs(folder_, 2, limits);
  std::string all;
  for (int i = 0; i < 20000; ++i) {
    const std::string line = absl::StrCat("line ", i, "\n");
    logs.Write(0, false, line);
    all += line;
  }
  logs.Write(1, true, "an error\n");
  const std::string path = LogKeeper::Path(folder_, 0, false);
  const std::string kept = Read(LogKeeper::OlderPath(path)) + Read(path);
  EXPECT_THAT(all, EndsWith(kept));
  EXPECT_GE(kept.size(), size_t{32} << 10);
  EXPECT_LE(kept.size(), (size_t{64} << 10) + 100);
  EXPECT_EQ(Read(LogKeeper::Path(folder_, 1, true)), "an error\n");
  EXPECT_FALSE(fs::exists(LogKeeper::Path(folder_, 1, false)));
}

TEST_F(Job, OutputThatFindsNoRoomIsCountedInTheLogAndWarnedOfOnce) {
  LogKeeper logs(folder_, 1);
  logs.Write(0, false, "first\n");
  // As a full disk: a file may not grow beyond this.
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 9;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  logs.Write(0, false, "second\n");  // three bytes find room
  logs.Write(0, false, "third\n");
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  logs.Write(0, false, "fourth\n");
  logs.Write(0, false, "fifth\n");
  EXPECT_EQ(logs.bytes_lost(), 10u);
  EXPECT_EQ(Read(LogKeeper::Path(folder_, 0, false)),
            "first\nsec\n[muster: 10 bytes are missing here; they could not be written]\nfourth\nfifth\n");
  ASSERT_THAT(warnings_, SizeIs(1));
  EXPECT_THAT(warnings_[0], HasSubstr("rank-0.out"));
}

}  // namespace
}  // namespace muster
