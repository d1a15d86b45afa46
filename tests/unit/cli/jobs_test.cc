// The commands about jobs: what they read and what they print.
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/cli/followed_file.h"
#include "launcher/cli/job_argument.h"
#include "launcher/cli/job_text.h"
#include "launcher/cli/rank_list.h"
#include "launcher/job/job_folder.h"
#include "launcher/job/job_list.h"
#include "launcher/job/log_keeper.h"

namespace muster {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'100);

class Jobs : public ::testing::Test {
 protected:
  Jobs() {
    std::string name = (fs::temp_directory_path() / "muster-test-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~Jobs() override { fs::remove_all(folder_); }

  static void Write(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::app) << text; }

  // A job that is over; `age` orders them.
  std::string Keep(char digit, int age, const std::string& verdict) {
    const std::string id(32, digit);
    JobStatus status;
    status.started_unix_ms = absl::ToUnixMillis(kNow) - age * 1000;
    status.state = "over";
    status.workers = 4;
    auto job = JobFolder::Create(folder_, id);
    EXPECT_TRUE(job.ok()) << job.status();
    Write((*job)->path() + "/status.json", StatusJson(status));
    Write((*job)->path() + "/command", "./train " + std::string(1, digit) + "\n");
    if (!verdict.empty()) Write((*job)->path() + "/verdict.json", verdict);
    return id;
  }

  std::string folder_;
};

constexpr char kWell[] = R"({"exit_code": 0, "sentence": "", "seconds": 61.5})";
constexpr char kBadly[] = R"({"exit_code": 137, "sentence": "rank 1 was killed", "seconds": 2})";

constexpr char kAsked[] = R"({"exit_code": 143, "class": "stopped", "sentence": "terminated", "seconds": 2})";

TEST_F(Jobs, AreListedNewestFirstWithHowTheyStand) {
  Keep('a', 30, kWell);
  Keep('b', 10, kBadly);
  Keep('c', 20, "");
  Keep('d', 40, "{\"exit_");
  Keep('f', 50, kAsked);
  auto running = JobFolder::Create(folder_, std::string(32, 'e'));
  fs::create_directory(folder_ + "/muster/notes");
  const auto jobs = ListJobs(folder_);
  ASSERT_THAT(jobs, SizeIs(6));
  std::string order;
  for (const StoredJob& job : jobs) absl::StrAppend(&order, job.brief().substr(0, 1), ":", job.state(), " ");
  EXPECT_EQ(order, "e:starting b:failed c:lost a:done d:lost f:stopped ");
  EXPECT_EQ(jobs[0].owner, ::getpid());
  EXPECT_TRUE(jobs[0].held);
  EXPECT_EQ(jobs[1].verdict->sentence, "rank 1 was killed");
  running->reset();
  EXPECT_EQ(ReadJob(jobs[0].folder).state(), "lost");
}

TEST_F(Jobs, AreFoundByTheBeginningOfTheirId) {
  EXPECT_THAT(std::string(FindJob(folder_, "").status().message()), AllOf(HasSubstr(folder_), HasSubstr("muster run")));
  Keep('a', 30, kWell);
  const std::string newest = Keep('b', 10, kBadly);
  EXPECT_EQ(FindJob(folder_, "")->job_id, newest);
  EXPECT_EQ(FindJob(folder_, "aaa")->job_id, std::string(32, 'a'));
  EXPECT_EQ(FindJob(folder_, "AA")->job_id, std::string(32, 'a'));
  const absl::Status unknown = FindJob(folder_, "12").status();
  EXPECT_TRUE(absl::IsNotFound(unknown));
  EXPECT_THAT(std::string(unknown.message()), HasSubstr("the newest are bbbbbbbb (failed: ./train b), aaaaaaaa (done"));
  ASSERT_TRUE(JobFolder::Create(folder_, std::string(31, 'a') + "0").ok());
  const absl::Status several = FindJob(folder_, "aa").status();
  EXPECT_TRUE(absl::IsInvalidArgument(several));
  EXPECT_THAT(std::string(several.message()), HasSubstr("write more of its id"));
}

StoredJob SomeJob() {
  StoredJob job;
  job.job_id = "4e525033" + std::string(24, '0');
  job.folder = "/state/muster/" + job.job_id;
  job.command = "./train\t--lr 0.1";
  job.held = true;
  job.started_unix_ms = absl::ToUnixMillis(kNow) - 100'000;
  JobStatus& status = job.status;
  status.state = "running";
  status.since_unix_ms = absl::ToUnixMillis(kNow) - 42'000;
  status.workers = 6;
  status.workers_min = 2;
  status.workers_now = 4;
  status.nodes_wanted = 3;
  status.generation = 3;
  status.restarts = 2;
  status.restarts_used = 1;
  status.max_restarts = 3;
  status.committed_step = 1841;
  status.checkpoint_step = 1800;
  status.checkpoint_unix_ms = absl::ToUnixMillis(kNow) - 5'000;
  status.checkpoint_path = "/data/words";
  status.nodes = {{0, "node0", "10.77.1.1", "running"}, {1, "node1", "10.77.1.2", "running"}, {2, "node2", "", "away"}};
  status.nccl = {"NCCL on node0, node1 is told NCCL_CROSS_NIC=0: why"};
  status.nccl_notes = {"node node2: NIC mlx5_3 is\x1b down"};
  for (int64_t rank = 0; rank < 4; ++rank) status.ranks.push_back({rank, rank / 2, "", rank == 3 ? "ended" : "running"});
  for (uint64_t generation = 1; generation <= 7; ++generation) {
    status.history.push_back(
        {absl::ToUnixMillis(kNow) - 50'000, generation, 1700, absl::StrCat("cause ", generation, "\x1b[2J")});
  }
  status.refusals = 12;
  status.refused = {{absl::ToUnixMillis(kNow), "the coordinator", "a stranger", "", 12, "the coordinator refused a stranger"}};
  return job;
}

TEST(JobText, StatusIsOneScreenAnOperatorCanRead) {
  const std::string screen = StatusScreen(SomeJob(), kNow, absl::UTCTimeZone());
  for (const char* part :
       {"state     running for 42s, since 22:14:18", "workers   4 of 6 (2 at least) on 3 nodes, generation 3",
        "step      1841 committed; checkpoint of step 1800, 5s ago, in /data/words",
        "restarts  2; 1 of 3 used since the newest checkpoint", "... 2 more before; muster events 4e525033",
        "22:14:10  generation 7: cause 7", "node0            10.77.1.1        running   ranks 0,1 running",
        "rank 3 ended; rank 2 running", "node2            -                away", "refused   12 connections",
        "22:15:00  the coordinator refused a stranger",
        "nccl\n  NCCL on node0, node1 is told NCCL_CROSS_NIC=0: why\n  warning: node node2: NIC mlx5_3 is  down\n"}) {
    EXPECT_THAT(screen, HasSubstr(part));
  }
  EXPECT_THAT(screen, Not(HasSubstr("verdict")));
  EXPECT_THAT(screen, Not(HasSubstr("\x1b")));
  EXPECT_THAT(screen, Not(HasSubstr("\t")));

  StoredJob over = SomeJob();
  over.held = false;
  EXPECT_THAT(StatusScreen(over, kNow, absl::UTCTimeZone()), HasSubstr("state     lost: its coordinator died"));
  over.verdict.emplace();
  over.verdict->exit_code = 137;
  over.verdict->sentence = "rank 1 was killed";
  over.verdict->seconds = 3700;
  EXPECT_THAT(StatusScreen(over, kNow, absl::UTCTimeZone()),
              AllOf(HasSubstr("state     failed after 1h01m"), HasSubstr("verdict   exit status 137: rank 1 was killed")));
}

TEST(JobText, TheTableHasColumnsThatLineUp) {
  StoredJob second = SomeJob();
  second.command = std::string(200, 'x');
  second.status.committed_step = -1;
  const std::vector<std::string> lines = absl::StrSplit(JobsTable({SomeJob(), second}, kNow), '\n', absl::SkipEmpty());
  ASSERT_THAT(lines, SizeIs(3));
  EXPECT_EQ(lines[0], "JOB       STATE    NP  NODES  GEN  RESTARTS  STEP  AGE    COMMAND");
  EXPECT_EQ(lines[1], "4e525033  running  6   3      3    2         1841  1m40s  ./train --lr 0.1");
  EXPECT_EQ(lines[0].find("COMMAND"), lines[2].find("xxx"));
  EXPECT_LE(lines[2].size(), 130u);
  EXPECT_THAT(JobsTable({}, kNow), StartsWith("JOB"));
}

TEST(JobText, JsonHasNullWhereThereIsNothing) {
  const std::string json = JobsJson({SomeJob()});
  EXPECT_THAT(json, HasSubstr("\"running\": true"));
  EXPECT_THAT(json, HasSubstr("\"exit_code\": null"));
  StoredJob over = SomeJob();
  over.verdict.emplace();
  over.verdict->json = kWell;
  EXPECT_THAT(StatusObject(over), HasSubstr("\"seconds\": 61.5"));
  EXPECT_THAT(StatusObject(SomeJob()), HasSubstr("\"verdict\": null"));
  EXPECT_THAT(StatusObject(SomeJob()), HasSubstr("\"nccl\": [\n  \"NCCL on node0, node1 is told NCCL_CROSS_NIC=0: why\"\n ],\n "
                                                 "\"nccl_notes\": [\n  \"node node2: "));
}

TEST(JobText, NumbersAreShort) {
  EXPECT_EQ(Age(absl::Seconds(-1)), "0s");
  EXPECT_EQ(Age(absl::Seconds(59.9)), "59s");
  EXPECT_EQ(Age(absl::Minutes(61)), "1h01m");
  EXPECT_EQ(Age(absl::Hours(49)), "2d01h");
  EXPECT_EQ(Ranges({}), "");
  EXPECT_EQ(Ranges({3}), "3");
  EXPECT_EQ(Ranges({0, 1, 4, 5, 6, 9}), "0,1,4-6,9");
}

TEST_F(Jobs, AFollowedFileIsReadInWholeLinesOverItsParts) {
  const std::string path = LogKeeper::Path(folder_, 0, false);
  FollowedFile file(path);
  EXPECT_EQ(file.Read(false), "");
  LogLimits limits;
  limits.stream_bytes_max = 64 << 10;
  LogKeeper logs(folder_, 1, limits);
  std::string written, seen;
  const auto read = [&](bool over) {
    for (std::string lines = file.Read(over); !lines.empty(); lines = file.Read(over)) seen += lines;
  };
  for (int i = 0; i < 20000; ++i) {
    const std::string piece = absl::StrCat("line ", i, i % 3 == 0 ? " " : "\n");
    logs.Write(0, false, piece);
    written += piece;
    // Oftener than parts are turned over.
    if (i % 500 == 0) {
      read(false);
      EXPECT_TRUE(seen.empty() || seen.back() == '\n');
    }
  }
  logs.Write(0, false, "the end");
  read(false);
  EXPECT_EQ(seen, written);
  read(true);
  EXPECT_EQ(seen, written + "the end");
  EXPECT_TRUE(fs::exists(LogKeeper::OlderPath(path)));
  FollowedFile late(path);
  std::string newest;
  for (std::string lines = late.Read(true); !lines.empty(); lines = late.Read(true)) newest += lines;
  EXPECT_EQ(written.substr(written.size() + 7 - newest.size()) + "the end", newest);
  EXPECT_GT(newest.size(), 30u << 10);
}

TEST_F(Jobs, AFollowedFileMayBeginWithItsLastLines) {
  const std::string path = LogKeeper::Path(folder_, 0, false);
  fs::create_directories(fs::path(path).parent_path());
  const auto write = [](const std::string& name, const std::string& text) { std::ofstream(name, std::ios::app) << text; };
  const auto last = [&](int64_t lines) {
    FollowedFile file(path);
    file.SkipToLast(lines);
    std::string text;
    for (std::string part = file.Read(true); !part.empty(); part = file.Read(true)) text += part;
    return text;
  };
  EXPECT_EQ(last(3), "") << "no log yet";
  write(path, "4\n5\n6\n");
  EXPECT_EQ(last(0), "");
  EXPECT_EQ(last(2), "5\n6\n");
  EXPECT_EQ(last(9), "4\n5\n6\n");
  write(LogKeeper::OlderPath(path), "1\n2\n3\n");
  EXPECT_EQ(last(2), "5\n6\n");
  EXPECT_EQ(last(3), "4\n5\n6\n");
  EXPECT_EQ(last(4), "3\n4\n5\n6\n");
  EXPECT_EQ(last(9), "1\n2\n3\n4\n5\n6\n");
  write(path, "begun");
  EXPECT_EQ(last(1), "begun");
  EXPECT_EQ(last(2), "6\nbegun");
  const std::string long_line(200'000, 'x');  // more than a block
  write(path, long_line + "\n7\n");
  EXPECT_EQ(last(2), "begun" + long_line + "\n7\n");
  FollowedFile follower(path);
  follower.SkipToLast(0);
  EXPECT_EQ(follower.Read(false), "");
  write(path, "8\n");
  EXPECT_EQ(follower.Read(false), "8\n");
}

TEST(RankLists, NameRanksAndRanges) {
  const auto list = RankList::Parse("0,2-5");
  ASSERT_TRUE(list.ok()) << list.status();
  std::vector<int64_t> named;
  for (int64_t rank = 0; rank < 9; ++rank) {
    if (list->contains(rank)) named.push_back(rank);
  }
  EXPECT_THAT(named, ::testing::ElementsAre(0, 2, 3, 4, 5));
  EXPECT_EQ(list->greatest(), 5);
  EXPECT_FALSE(list->is_single());
  EXPECT_TRUE(RankList::Parse("7")->is_single());
  for (const char* const wrong : {"", "x", "-1", "3-", "5-2", "1,,2", "1-2-3", "0x1", "99999999999"}) {
    EXPECT_FALSE(RankList::Parse(wrong).ok()) << wrong;
  }
}

TEST(JobArgument, StandsAnywhereBetweenTheFlags) {
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"4e52", "--rank", "3", "-f"}, {"--rank=3", "4e52", "-f"}, {"--rank", "3", "-f", "4e52"}}) {
    int64_t rank = -1;
    bool follow = false;
    FlagSet flags("muster logs");
    flags.Count("--rank", "N", &rank, 0, 100, "");
    flags.Switch("--follow -f", &follow, "");
    const auto job = ParseJobArgument(&flags, words);
    ASSERT_TRUE(job.ok()) << job.status();
    EXPECT_EQ(*job, "4e52");
    EXPECT_EQ(rank, 3);
    EXPECT_TRUE(follow);
  }
  FlagSet none("muster status");
  EXPECT_THAT(*ParseJobArgument(&none, {}), IsEmpty());
  EXPECT_THAT(std::string(ParseJobArgument(&none, {"a", "b"}).status().message()), HasSubstr("one job at a time: a or b"));
  EXPECT_FALSE(ParseJobArgument(&none, {"a", "--what"}).ok());
  ASSERT_TRUE(ParseJobArgument(&none, {"a", "--help"}).ok());
  EXPECT_TRUE(none.help_wanted());
}

}  // namespace
}  // namespace muster
