// Real worker processes under a real WorkerPort: what callers and the agent see when workers live, leave and die.
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "runtime/base/clock.h"
#include "tests/support/local_agent.h"

namespace muster {
namespace {

using testing::LocalAgent;
using Event = LocalAgent::Event;

std::vector<std::string> Worker(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), SESSION_WORKER);
  return arguments;
}

bool ExitedWell(int wait_status) { return WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0; }

class Ranks : public ::testing::TestWithParam<uint32_t> {};

TEST_P(Ranks, AllReduceInEverySizeAndLeave) {
  const uint32_t ranks = GetParam();
  const int memory_before = testing::CountDescriptors("memfd:muster");
  {
    LocalAgent agent;
    for (uint32_t slot = 0; slot < ranks; ++slot) agent.Start(slot, Worker({"reduce", "20"}));
    agent.Begin(ranks);
    for (uint32_t slot = 0; slot < ranks; ++slot) {
      EXPECT_TRUE(ExitedWell(agent.Join(slot)));
      EXPECT_EQ(agent.Output(slot), absl::StrCat("ok rank ", slot, " of ", ranks, "\n"));
      agent.Await(Event::kLeft, slot);
      EXPECT_EQ(agent.Await(Event::kStep, slot).step, 20);
      agent.Do([&](WorkerPort& port) {
        EXPECT_TRUE(port.HasLeft(slot));
        const LastOperation last = port.LastOperationOf(slot);
        EXPECT_EQ(last.description, "all_reduce of 65536 i64, sum");
        EXPECT_TRUE(last.finished);
        EXPECT_GT(last.op_seq, 160u);
      });
    }
    EXPECT_EQ(agent.Count(Event::kLost), 0u);
    EXPECT_EQ(agent.Count(Event::kBlamed), 0u);
  }
  EXPECT_EQ(testing::CountDescriptors("memfd:muster"), memory_before);
}

INSTANTIATE_TEST_SUITE_P(Session, Ranks, ::testing::Values(1u, 2u, 3u, 4u));

// Three ranks wait for rank 1, who is killed. All must hear of it, by name.
void KillOne(std::vector<std::string> victim, const char* what, const char* others = "block") {
  LocalAgent agent;
  for (const uint32_t slot : {0u, 2u, 3u}) agent.Start(slot, Worker({others}));
  const pid_t doomed = agent.Start(1, Worker(std::move(victim)));
  agent.Begin(4);
  for (uint32_t slot = 0; slot < 4; ++slot) ASSERT_EQ(agent.Line(slot), "ready");
  const int64_t killed_at = MonotonicNanoseconds();
  ASSERT_EQ(::kill(doomed, SIGKILL), 0);
  for (const uint32_t slot : {0u, 2u, 3u}) {
    const std::vector<std::string> heard = absl::StrSplit(agent.Line(slot), absl::MaxSplits(' ', 1));
    ASSERT_EQ(heard.size(), 2u);
    int64_t returned_at = 0;
    ASSERT_TRUE(absl::SimpleAtoi(heard[0], &returned_at));
    std::printf("%s: rank %u's call returned %.3f ms after the kill: %s\n", what, slot,
                static_cast<double>(returned_at - killed_at) * 1e-6, heard[1].c_str());
    EXPECT_TRUE(absl::StartsWith(heard[1], "UNAVAILABLE: rank 1 (test-host)")) << heard[1];
  }
  agent.Await(Event::kLost, 1);
  EXPECT_EQ(WTERMSIG(agent.Join(1)), SIGKILL);
  for (const uint32_t slot : {0u, 2u, 3u}) {
    EXPECT_TRUE(ExitedWell(agent.Join(slot)));
    EXPECT_EQ(agent.Output(slot), "");
    agent.Await(Event::kLeft, slot);
    const Event blamed = agent.Await(Event::kBlamed, slot);
    EXPECT_EQ(blamed.blamed_rank, 1u);
    EXPECT_EQ(blamed.reason, v1::AbortReason::kPeerLost);
  }
  EXPECT_EQ(agent.Count(Event::kLost), 1u);
}

TEST(Death, KillReachesEveryBlockedCall) { KillOne({"victim", "1"}, "small process"); }
TEST(Death, KillOfALargeProcess) { KillOne({"victim", "1024"}, "1 GiB resident"); }
TEST(Death, KillWhileAForkedChildLivesOn) { KillOne({"victim_with_child"}, "with a child"); }
TEST(Death, KillReachesThoseInACommunicatorMadeBySplit) { KillOne({"victim_in_split"}, "in a split", "block_in_split"); }

// The agent reads what a killed worker was doing in a communicator made by Split, whose memory is not the agent's.
TEST(Death, LeavesARecordOfACallInASplit) {
  LocalAgent agent;
  for (const uint32_t slot : {0u, 2u}) agent.Start(slot, Worker({"alone_in_split"}));
  const pid_t doomed = agent.Start(1, Worker({"alone_in_split"}));
  agent.Begin(3);
  for (uint32_t slot = 0; slot < 3; ++slot) ASSERT_EQ(agent.Line(slot), "ready");
  LastOperation last;
  const auto look = [&](WorkerPort& port) { last = port.LastOperationOf(1); };
  while (last.communicator == 0) agent.Do(look);  // it has called
  ASSERT_EQ(::kill(doomed, SIGKILL), 0);
  agent.Await(Event::kLost, 1);
  agent.Do(look);
  EXPECT_TRUE(absl::StartsWith(last.description, "barrier in communicator ")) << last.description;
  EXPECT_TRUE(absl::EndsWith(last.description, " of 2 ranks")) << last.description;
  EXPECT_EQ(last.op_seq, 1u);
  EXPECT_FALSE(last.finished);
}

TEST(Deadline, InASplitIsBlamedOnTheRankOfTheJob) {
  LocalAgent agent;
  for (uint32_t slot = 0; slot < 3; ++slot) agent.Start(slot, Worker({"alone_in_split", "late"}));
  agent.Begin(3);
  const Event blamed = agent.Await(Event::kBlamed, 1);
  EXPECT_EQ(blamed.blamed_rank, 0u);
  EXPECT_EQ(blamed.reason, v1::AbortReason::kDeadline);
  EXPECT_TRUE(blamed.of_some_ranks);
  EXPECT_TRUE(absl::StrContains(blamed.message, "rank 0 (test-host) had not arrived")) << blamed.message;
}

// Rank 1 ends without leaving in the middle of the job.
void EndInMidJob(const std::string& how, bool is_lost, const std::string& where = "") {
  LocalAgent agent;
  agent.Start(0, Worker({"block" + where}));
  agent.Start(1, Worker({"end" + where, how}));
  agent.Begin(2);
  ASSERT_EQ(agent.Line(0), "ready");
  const std::string heard = agent.Line(0);
  EXPECT_TRUE(absl::StrContains(heard, "UNAVAILABLE: rank 1 (test-host)")) << heard;
  EXPECT_EQ(absl::StrContains(heard, "left before the others"), !is_lost) << heard;
  agent.Await(is_lost ? Event::kLost : Event::kLeft, 1);
  EXPECT_TRUE(ExitedWell(agent.Join(1))) << "its status says nothing";
  EXPECT_EQ(agent.Await(Event::kBlamed, 0).blamed_rank, 1u);
  EXPECT_EQ(agent.Count(Event::kLost), is_lost ? 1u : 0u);
}

TEST(Death, QuickExitWithoutLeavingIsALoss) { EndInMidJob("_exit", true); }
TEST(Death, ExecWhileJoinedIsALoss) { EndInMidJob("exec", true); }
TEST(Death, ExitInMidJobIsNamedAsLeft) { EndInMidJob("exit", false); }
TEST(Death, ExitInASplitIsNamedAsLeft) { EndInMidJob("exit", false, "_in_split"); }

TEST(Death, AWorkerThatNeverJoins) {
  LocalAgent agent;
  agent.Start(0, Worker({"block"}));
  agent.Start(1, {"/bin/true"});
  agent.Begin(2);
  EXPECT_TRUE(ExitedWell(agent.Join(1)));
  const std::string heard = agent.Line(0);  // its first barrier fails already: it is never "ready" for long
  EXPECT_TRUE(absl::StrContains(heard + agent.Output(0), "rank 1 (test-host)")) << heard;
}

TEST(Death, TheAgentsDeathBreaksEveryCall) {
  LocalAgent agent;
  agent.Start(0, Worker({"block"}));
  agent.Start(1, Worker({"victim", "1"}));
  agent.Begin(2);
  ASSERT_EQ(agent.Line(0), "ready");
  ASSERT_EQ(agent.Line(1), "ready");
  agent.ClosePort();
  const std::string heard = agent.Line(0);
  EXPECT_TRUE(absl::StrContains(heard, "UNAVAILABLE: the agent of this node (test-host) is gone")) << heard;
}

TEST(Leave, AThousandTimesAtRandomMomentsAfterTheLastBarrier) {
  constexpr uint32_t kRanks = 4, kRounds = 1000;
  const char* given = std::getenv("MUSTER_TEST_SEED");
  const unsigned seed = given != nullptr ? static_cast<unsigned>(std::atoi(given)) : std::random_device()() % 1'000'000;
  SCOPED_TRACE(absl::StrCat("MUSTER_TEST_SEED=", seed, " fault_session_test --gtest_filter=Leave.AThousand*"));
  LocalAgent agent;
  std::vector<pid_t> pids;
  for (uint32_t rank = 0; rank < kRanks; ++rank) {
    pids.push_back(agent.Start(1'000'000 + rank, Worker({"rounds", absl::StrCat(rank), absl::StrCat(kRanks),
                                                         absl::StrCat(kRounds), absl::StrCat(seed)})));
  }
  for (uint32_t round = 0; round < kRounds; ++round) {
    LocalGeneration generation{
        .generation = round + 1, .job_id = agent.job_id(), .key = std::string(32, 'k'), .world_size = kRanks};
    for (uint32_t rank = 0; rank < kRanks; ++rank) generation.places.push_back({round * kRanks + rank, rank});
    agent.Do([&](WorkerPort& port) {
      for (uint32_t rank = 0; rank < kRanks; ++rank) port.ExpectWorker(round * kRanks + rank, 1, pids[rank]);
      EXPECT_TRUE(port.BeginGeneration(generation).ok());
    });
    agent.AwaitCount(Event::kLeft, (round + 1) * kRanks, /*or_any=*/Event::kEnded);
    if (agent.Count(Event::kLeft) != (round + 1) * kRanks) break;
  }
  for (uint32_t rank = 0; rank < kRanks; ++rank) {
    EXPECT_TRUE(ExitedWell(agent.Join(1'000'000 + rank)));
    EXPECT_EQ(agent.Output(1'000'000 + rank), "ok\n");
  }
  EXPECT_EQ(agent.Count(Event::kLeft), kRounds * kRanks);
  EXPECT_EQ(agent.Count(Event::kLost), 0u);
  EXPECT_EQ(agent.Count(Event::kBlamed), 0u);
}

TEST(Fork, ParentAndChildAreBothFine) {
  LocalAgent agent;
  for (const uint32_t slot : {0u, 1u}) agent.Start(slot, Worker({"fork"}));
  agent.Begin(2);
  for (const uint32_t slot : {0u, 1u}) {
    EXPECT_TRUE(ExitedWell(agent.Join(slot)));
    EXPECT_EQ(agent.Output(slot), "ok\n");
    agent.Await(Event::kLeft, slot);
  }
  EXPECT_EQ(agent.Count(Event::kLost), 0u);
}

TEST(Protobuf, AnotherOneInTheSameProcess) {
  LocalAgent agent;
  for (const uint32_t slot : {0u, 1u}) agent.Start(slot, {PROTOBUF_WORKER});
  agent.Begin(2);
  for (const uint32_t slot : {0u, 1u}) {
    EXPECT_TRUE(ExitedWell(agent.Join(slot)));
    EXPECT_EQ(agent.Output(slot), "ok 43\n");
  }
}

}  // namespace
}  // namespace muster
