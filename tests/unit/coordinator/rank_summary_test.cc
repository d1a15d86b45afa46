#include "launcher/coordinator/rank_summary.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// A job of `ranks` ranks on host a, all of which wait in operation 120.
class Where {
 public:
  explicit Where(uint32_t ranks) {
    evidence_.ranks_were_asked = true;
    for (uint32_t rank = 0; rank < ranks; ++rank) {
      evidence_.members.push_back({rank, rank, 0, "a", ""});
      v1::RankState& state = evidence_.rank_states.emplace_back();
      state.set_rank(rank);
      state.set_pid(1000 + rank);
      state.set_joined(true);
      state.set_op_seq(120);
      state.set_op("all_reduce of 4096 f32");
      state.set_op_ms(12'000 + rank);
      state.set_process_state("S");
      state.set_wait_channel("futex_wait_queue");
    }
  }
  v1::RankState& of(uint32_t rank) { return evidence_.rank_states[rank]; }
  Evidence& evidence() { return evidence_; }
  RankSummary Summary() const { return SummarizeRanks(evidence_); }

 private:
  Evidence evidence_;
};

TEST(RankSummary, TheOneThatHasNotCalledComesFirst) {
  Where where(6);
  where.of(4).set_op_seq(119);
  where.of(4).set_op_finished(true);
  where.of(4).set_wait_channel("do_sys_poll");
  const RankSummary summary = where.Summary();
  EXPECT_EQ(summary.sentence,
            "rank 4 on host a has not called all_reduce of 4096 f32 (op 120); its last call, op 119, ended 12 s before; its process "
            "1004 sleeps in do_sys_poll; ranks 0-3, 5 are in all_reduce of 4096 f32 (op 120) since 12 s");
  EXPECT_EQ(summary.odd_rank, 4);
  ASSERT_EQ(summary.groups.size(), 2u);
  EXPECT_THAT(summary.groups[0].ranks, ElementsAre(4));
  EXPECT_THAT(summary.groups[1].ranks, ElementsAre(0, 1, 2, 3, 5));
}

// Communicators count for themselves: op 7 of one made by Split is not older than op 120 of all ranks.
TEST(RankSummary, CallsOfACommunicatorOfSomeRanksAreComparedWithItsOwn) {
  Where where(4);
  for (const uint32_t rank : {2u, 3u}) {
    where.of(rank).set_communicator(0x9f3b21);
    where.of(rank).set_op("barrier in communicator 9f3b21 of 2 ranks");
    where.of(rank).set_op_seq(7);
  }
  EXPECT_EQ(where.Summary().odd_rank, -1);
  EXPECT_THAT(where.Summary().sentence, HasSubstr("ranks 2, 3 are in barrier in communicator 9f3b21 of 2 ranks (op 7) since"));
  where.of(3).set_op_seq(6);
  where.of(3).set_op_finished(true);
  EXPECT_EQ(where.Summary().odd_rank, 3);
  EXPECT_THAT(
      where.Summary().sentence,
      StartsWith("rank 3 on host a has not called barrier in communicator 9f3b21 of 2 ranks (op 7); its last call, barrier in "
                 "communicator 9f3b21 of 2 ranks (op 6), ended 12 s before"));
}

TEST(RankSummary, EqualRanksAreOneGroupAndNobodyIsOdd) {
  Where where(3);
  EXPECT_EQ(where.Summary().sentence, "ranks 0-2 are in all_reduce of 4096 f32 (op 120) since 12 s");
  EXPECT_EQ(where.Summary().odd_rank, -1);
  where.of(1).set_op("barrier");  // a wrong call is a group of its own
  EXPECT_EQ(where.Summary().odd_rank, 1);
}

TEST(RankSummary, AStoppedProcessIsFoundInsideItsCall) {
  Where where(3);
  where.of(2).set_process_state("T");
  EXPECT_THAT(where.Summary().sentence, StartsWith("rank 2 on host a is in all_reduce of 4096 f32 (op 120); its process 1002 is "
                                                   "stopped (SIGCONT lets it go on)"));
}

TEST(RankSummary, WhoNeverJoinedOrHasLeftIsNamed) {
  Where where(4);
  where.of(1).set_joined(false);
  where.of(1).set_op_seq(0);
  EXPECT_THAT(where.Summary().sentence, StartsWith("rank 1 on host a has not opened its session; its process 1001 sleeps"));
  where.of(1).set_joined(true);
  where.of(1).set_left(true);
  EXPECT_THAT(where.Summary().sentence, StartsWith("rank 1 on host a has closed its session"));
}

TEST(RankSummary, WhoEndedIsNamedFirstIfSomebodyWaits) {
  Where where(3);
  where.evidence().rank_states.erase(where.evidence().rank_states.begin() + 1);
  v1::WorkerEnded ended;
  ended.set_rank(1);
  ended.mutable_ending()->set_kind(v1::Ending::EXITED);
  where.evidence().endings.push_back(ended);
  EXPECT_THAT(where.Summary().sentence, StartsWith("rank 1 on host a has ended with exit status 0; ranks 0, 2 are in"));
  EXPECT_EQ(where.Summary().odd_rank, 1);
}

TEST(RankSummary, WhatTheStopItselfEndedIsNoNews) {
  Where where(2);
  for (const uint32_t rank : {0u, 1u}) {
    v1::WorkerEnded ended;
    ended.set_rank(rank);
    ended.set_expected(true);
    where.evidence().endings.push_back(ended);
  }
  EXPECT_EQ(where.Summary().sentence, "ranks 0, 1 are in all_reduce of 4096 f32 (op 120) since 12 s");
}

TEST(RankSummary, AnAgentThatDidNotAnswerIsNamed) {
  Where where(3);
  where.evidence().rank_states.pop_back();
  where.evidence().members[2].host = "b";
  EXPECT_THAT(where.Summary().sentence, StartsWith("rank 2 on host b: unknown: the agent of host b did not answer"));
}

TEST(RankSummary, ProgramsWithoutLibmusterAreToldByTheirProcesses) {
  Where where(3);
  for (uint32_t rank = 0; rank < 3; ++rank) {
    where.of(rank).set_joined(false);
    where.of(rank).set_op_seq(0);
  }
  where.of(1).set_process_state("R");
  where.of(1).set_wait_channel("");
  where.of(1).set_cpu_ms(58'200);
  EXPECT_EQ(where.Summary().sentence,
            "rank 1 on host a runs without a session of libmuster; its process 1001 runs (58 s of CPU time so far); ranks 0, 2 run "
            "without a session of libmuster; their processes sleep in futex_wait_queue");
}

TEST(RankSummary, OfAThousandRanksTheSentenceIsShort) {
  Where where(1000);
  for (uint32_t rank = 0; rank < 1000; ++rank) {
    where.of(rank).set_op_seq(rank % 10 == 3 ? 119 - rank % 100 : 120);
    where.of(rank).set_op_finished(rank % 10 == 3);
  }
  const RankSummary summary = where.Summary();
  EXPECT_LT(summary.sentence.size(), 5000u);
  EXPECT_THAT(summary.sentence, HasSubstr("more, see --report"));
  size_t ranks = 0;
  for (const RankGroup& group : summary.groups) ranks += group.ranks.size();
  EXPECT_EQ(ranks, 1000u);
}

TEST(RankSummary, RangesAreShort) {
  EXPECT_EQ(RankRanges({0, 1, 2, 3, 5}), "0-3, 5");
  EXPECT_EQ(RankRanges({1, 2}), "1, 2");
  EXPECT_EQ(RankRanges({7}), "7");
}

}  // namespace
}  // namespace muster
