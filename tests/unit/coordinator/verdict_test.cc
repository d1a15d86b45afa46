#include "launcher/coordinator/verdict.h"

#include <errno.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/coordinator/blame_graph.h"
#include "proto/muster/v1/control_memory.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using v1::AbortReason;

// A job of `ranks` ranks on node-a, told bit by bit.
class Told {
 public:
  explicit Told(uint32_t ranks) {
    for (uint32_t rank = 0; rank < ranks; ++rank) evidence_.members.push_back({rank, rank, 0, "node-a"});
  }
  Told& Ended(uint32_t rank, v1::Ending::Kind kind, int code, uint64_t when_ms = 1000, bool expected = false) {
    v1::WorkerEnded ended;
    ended.set_rank(rank);
    ended.set_slot(rank);
    ended.mutable_ending()->set_kind(kind);
    ended.mutable_ending()->set_code(code);
    ended.set_when_ms(when_ms);
    ended.set_expected(expected);
    evidence_.endings.push_back(ended);
    return *this;
  }
  // Of the rank whose end was told last.
  Told& Said(const std::string& error) {
    evidence_.endings.back().mutable_ending()->set_program_error(error);
    evidence_.endings.back().mutable_ending()->set_program_trace("Traceback: " + error);
    return *this;
  }
  Told& ByUs(uint32_t rank) { return Ended(rank, v1::Ending::SIGNALED, 15, 2000, true); }
  Told& Blames(uint32_t rank, uint32_t blamed, AbortReason reason, const std::string& message = "") {
    v1::PeerBlamed blame;
    blame.set_rank(rank);
    blame.set_blamed_rank(blamed);
    blame.set_reason(static_cast<uint32_t>(reason));
    blame.set_message(message);
    blame.set_when_ms(900 + rank);
    evidence_.blames.push_back(blame);
    return *this;
  }
  // Of the blame that was told last.
  Told& OfSomeRanks(int64_t step = -1) {
    evidence_.blames.back().set_of_some_ranks(true);
    evidence_.blames.back().set_step(step);
    return *this;
  }
  Told& NotStarted(uint32_t slot, v1::Ending::Kind kind, int code, const std::string& detail) {
    Evidence::SpawnFailure failure;
    failure.slot = slot;
    failure.ending.set_kind(kind);
    failure.ending.set_code(code);
    failure.ending.set_detail(detail);
    evidence_.spawn_failures.push_back(failure);
    return *this;
  }
  Evidence& evidence() { return evidence_; }
  Judgement Judged() const { return Judge(evidence_); }

 private:
  Evidence evidence_;
};

TEST(Verdict, AllWell) {
  const Judgement judgement = Told(2).Ended(0, v1::Ending::EXITED, 0).Ended(1, v1::Ending::EXITED, 0).Judged();
  EXPECT_EQ(judgement.verdict.exit_code(), 0);
  EXPECT_EQ(judgement.verdict.sentence(), "");
  EXPECT_EQ(judgement.verdict.rank(), -1);
  EXPECT_THAT(judgement.causes, IsEmpty());
}

TEST(Verdict, WhoWasLateInACommunicatorOfSomeRanksIsNamedWhereItsPeerFailedOfIt) {
  Told told(4);
  told.Blames(2, 3, AbortReason::kDeadline, "rank 3 (a) had not arrived").OfSomeRanks();
  told.Ended(2, v1::Ending::EXITED, 1, 1001);
  for (const uint32_t other : {0, 1, 3}) told.Blames(other, 2, AbortReason::kPeerLost).ByUs(other);
  const v1::Verdict verdict = told.Judged().verdict;
  EXPECT_EQ(verdict.rank(), 3);
  EXPECT_EQ(verdict.failure_class(), "never arrived");
  EXPECT_THAT(verdict.sentence(), HasSubstr("(rank 3 (a) had not arrived)"));
}

TEST(Verdict, ACommunicatorOfSomeRanksThatTheJobLivesOnWithoutIsNoFailure) {
  Told well(2);
  well.Blames(0, 1, AbortReason::kDeadline).OfSomeRanks();
  EXPECT_FALSE(IsFailure(well.evidence().blames.back()));
  EXPECT_EQ(well.Ended(0, v1::Ending::EXITED, 0).Ended(1, v1::Ending::EXITED, 0).Judged().verdict.exit_code(), 0);

  // Steps were committed since, or what ended it was something else.
  Told later(2);
  later.Blames(0, 1, AbortReason::kDeadline).OfSomeRanks(/*step=*/5).Ended(0, v1::Ending::EXITED, 3).ByUs(1);
  later.evidence().committed_step = 7;
  EXPECT_EQ(later.Judged().verdict.rank(), 0);
  later.evidence().committed_step = 6;
  EXPECT_EQ(later.Judged().verdict.rank(), 1);
  Told let_go(2);
  let_go.Blames(0, 1, AbortReason::kPeerLeft).OfSomeRanks().Ended(0, v1::Ending::EXITED, 3).ByUs(1);
  EXPECT_EQ(let_go.Judged().verdict.rank(), 0) << "rank 1 had only destroyed that communicator";
  Told fault(2);
  fault.Blames(0, 1, AbortReason::kDeadline).OfSomeRanks().Ended(0, v1::Ending::SIGNALED, 11).ByUs(1);
  EXPECT_EQ(fault.Judged().verdict.rank(), 0);
}

TEST(Verdict, TheKilledRankIsNamedThoseThatBlameItAreCounted) {
  Told told(4);
  told.Ended(0, v1::Ending::EXITED, 1, 1001)
      .Blames(0, 2, AbortReason::kPeerLost)
      .Blames(1, 2, AbortReason::kPeerLost)
      .Ended(2, v1::Ending::SIGNALED, 9, 1002)  // its end is seen after that of its victim
      .ByUs(1)
      .ByUs(3);
  told.evidence().committed_step = 41;
  const Judgement judgement = told.Judged();
  EXPECT_EQ(judgement.verdict.sentence(),
            "rank 2 on host node-a was killed by signal 9 (SIGKILL) at step 41; 3 other ranks ended because of it");
  EXPECT_EQ(judgement.verdict.exit_code(), 137);
  EXPECT_EQ(judgement.verdict.origin(), "worker");
  EXPECT_EQ(judgement.verdict.rank(), 2);
  EXPECT_EQ(judgement.verdict.signal(), 9);
  EXPECT_EQ(judgement.verdict.ended_with_it(), 3);
  EXPECT_EQ(judgement.verdict.committed_step(), 41);
}

TEST(Verdict, AChainOfBlamesEndsAtItsRoot) {
  const Judgement judgement = Told(3)
                                  .Ended(0, v1::Ending::EXITED, 1, 1000)
                                  .Blames(0, 1, AbortReason::kPeerLost)
                                  .Ended(1, v1::Ending::EXITED, 2, 1001)
                                  .Blames(1, 2, AbortReason::kPeerLost)
                                  .Ended(2, v1::Ending::EXITED, 3, 1002)
                                  .Judged();
  EXPECT_EQ(judgement.verdict.rank(), 2);
  EXPECT_EQ(judgement.verdict.exit_code(), 3);
  EXPECT_EQ(judgement.causes.size(), 1u);
}

TEST(Verdict, SeveralRootsAreNamedEarliestFirst) {
  const Judgement judgement =
      Told(3).Ended(0, v1::Ending::EXITED, 5, 1009).Ended(1, v1::Ending::SIGNALED, 11, 1003).ByUs(2).Judged();
  EXPECT_EQ(judgement.verdict.sentence(),
            "rank 1 on host node-a was killed by signal 11 (SIGSEGV); rank 0 on host node-a exited with code 5; "
            "1 other rank ended because of it");
  EXPECT_EQ(judgement.verdict.exit_code(), 139);
}

TEST(Verdict, WhatTheProgramSaidStandsInTheSentence) {
  const Judgement judgement =
      Told(2).Ended(1, v1::Ending::EXITED, 1).Said("ValueError: no such file (data.py, line 7)").ByUs(0).Judged();
  EXPECT_EQ(
      judgement.verdict.sentence(),
      "rank 1 on host node-a exited with code 1: ValueError: no such file (data.py, line 7); 1 other rank ended because of it");
  EXPECT_EQ(judgement.verdict.program_error(), "ValueError: no such file (data.py, line 7)");
  EXPECT_EQ(judgement.causes[0].program_trace, "Traceback: ValueError: no such file (data.py, line 7)");
  EXPECT_THAT(Told(1).Ended(0, v1::Ending::SIGNALED, 6).Said("MemoryError: ").Judged().verdict.sentence(),
              HasSubstr("killed by signal 6 (SIGABRT): MemoryError"));
}

// Its message is seen first, for the rank that it lost takes its time to end.
TEST(Verdict, ARankThatOnlyLostItsPeerIsNoCause) {
  const std::string lost = "RuntimeError: [./gloo/transport/tcp/pair.cc:589] Read error [10.0.0.1]:7: Connection reset by peer";
  Told told(3);
  told.Ended(0, v1::Ending::EXITED, 1, 1000).Said(lost).Ended(1, v1::Ending::SIGNALED, 9, 1002).ByUs(2);
  EXPECT_EQ(told.Judged().verdict.sentence(),
            "rank 1 on host node-a was killed by signal 9 (SIGKILL); 2 other ranks ended because of it");
  EXPECT_EQ(told.Judged().verdict.exit_code(), 137);
  // Where nobody says more it is what is known.
  const Judgement judgement = Told(2).Ended(0, v1::Ending::EXITED, 1).Said(lost).Ended(1, v1::Ending::EXITED, 0).Judged();
  EXPECT_EQ(judgement.verdict.rank(), 0);
  EXPECT_THAT(judgement.verdict.sentence(), HasSubstr("Connection reset by peer"));
}

// Its own database's, say: nothing of a peer.
TEST(Verdict, AConnectionThatAProgramMissesForItselfIsACause) {
  for (const char* own : {"ConnectionRefusedError: [Errno 111] Connection refused (db.py, line 7)",
                          "psycopg2.OperationalError: connection to server at 10.0.0.9 failed: Connection refused",
                          "BrokenPipeError: [Errno 32] Broken pipe"}) {
    Told told(2);
    told.Ended(0, v1::Ending::EXITED, 1, 1000).Said(own).Ended(1, v1::Ending::SIGNALED, 9, 1002);
    EXPECT_EQ(told.Judged().verdict.rank(), 0) << own;
  }
  for (const char* echo :
       {"torch.distributed.DistNetworkError: The client socket has failed to connect to 10.0.0.1:7 (errno: 111 - Connection "
        "refused).",
        "torch.distributed.DistBackendError: NCCL error in: x.cpp:1, remote process exited or there was a network error",
        "RuntimeError: Broken pipe: sendBytes failed on SocketImpl(fd=3)"}) {
    Told told(2);
    told.Ended(0, v1::Ending::EXITED, 1, 1000).Said(echo).Ended(1, v1::Ending::SIGNALED, 9, 1002);
    EXPECT_EQ(told.Judged().verdict.rank(), 1) << echo;
  }
}

TEST(Verdict, LeavingWhileOthersCallIsLeavingEarly) {
  Told told(2);
  told.Ended(1, v1::Ending::EXITED, 0).Blames(0, 1, AbortReason::kPeerLost).ByUs(0);
  EXPECT_EQ(told.Judged().verdict.exit_code(), 70);
  EXPECT_EQ(told.Judged().verdict.origin(), "muster");
  EXPECT_EQ(told.Judged().verdict.failure_class(), "left early");
  EXPECT_THAT(told.Judged().verdict.sentence(), HasSubstr("rank 1 on host node-a left before the others"));
}

TEST(Verdict, AnExitCodeSaysMoreThanLeavingEarly) {
  const Judgement judgement =
      Told(2).Ended(1, v1::Ending::EXITED, 3).Blames(0, 1, AbortReason::kPeerLeft).Ended(0, v1::Ending::EXITED, 1).Judged();
  EXPECT_EQ(judgement.verdict.sentence(), "rank 1 on host node-a exited with code 3; 1 other rank ended because of it");
  EXPECT_EQ(judgement.verdict.failure_class(), "exit code");
  EXPECT_EQ(judgement.verdict.exit_code(), 3);
}

TEST(Verdict, LeavingEarlyTakesTheExitCodeOfAWorkerThatHasOne) {
  const Judgement judgement =
      Told(2).Ended(1, v1::Ending::EXITED, 0).Blames(0, 1, AbortReason::kPeerLeft).Ended(0, v1::Ending::EXITED, 4).Judged();
  EXPECT_EQ(judgement.verdict.rank(), 1);
  EXPECT_EQ(judgement.verdict.exit_code(), 4);
  EXPECT_EQ(judgement.verdict.origin(), "worker");
}

TEST(Verdict, AnExitWithZeroThatNobodyMissedIsWell) {
  const Judgement judgement = Told(2).Ended(0, v1::Ending::EXITED, 0).Ended(1, v1::Ending::EXITED, 0).Judged();
  EXPECT_EQ(judgement.verdict.exit_code(), 0);
}

TEST(Verdict, TheRankThatMostOthersBlameMadeTheWrongCall) {
  const Judgement judgement = Told(3)
                                  .Blames(0, 2, AbortReason::kMismatch, "rank 2 called barrier, the others all_reduce")
                                  .Blames(1, 2, AbortReason::kMismatch, "rank 2 called barrier, the others all_reduce")
                                  .Blames(2, 0, AbortReason::kMismatch)
                                  .Ended(0, v1::Ending::EXITED, 1, 1000)
                                  .Ended(1, v1::Ending::EXITED, 1, 1000)
                                  .Ended(2, v1::Ending::EXITED, 1, 1000)
                                  .Judged();
  EXPECT_EQ(judgement.verdict.rank(), 2);
  EXPECT_EQ(judgement.verdict.failure_class(), "wrong collective");
  EXPECT_EQ(judgement.verdict.exit_code(), 1);
  EXPECT_THAT(judgement.verdict.sentence(), HasSubstr("rank 2 called barrier, the others all_reduce"));
}

TEST(Verdict, AProgramThatIsNotThereIsSaidOnce) {
  const Judgement judgement =
      Told(2).NotStarted(0, v1::Ending::NOT_FOUND, 2, "./nope").NotStarted(1, v1::Ending::NOT_FOUND, 2, "./nope").Judged();
  EXPECT_EQ(judgement.verdict.exit_code(), 127);
  EXPECT_EQ(judgement.verdict.origin(), "muster");
  EXPECT_EQ(judgement.causes.size(), 1u);
  EXPECT_EQ(judgement.verdict.sentence(),
            "the program of rank 0 was not found on host node-a (./nope): check its name, or give a path such as ./train");
}

TEST(Verdict, AProgramThatMayNotBeExecutedIsSaidWithTheRemedy) {
  const Judgement judgement = Told(1).NotStarted(0, v1::Ending::NOT_EXECUTABLE, 13, "./data.txt").Judged();
  EXPECT_EQ(judgement.verdict.exit_code(), 126);
  EXPECT_THAT(judgement.verdict.sentence(), HasSubstr("chmod +x"));
}

TEST(Verdict, AGuardThatDiedIsNamedOnceForItsNode) {
  const Judgement judgement = Told(3)
                                  .Ended(0, v1::Ending::GUARD_LOST, 0)
                                  .Ended(1, v1::Ending::GUARD_LOST, 0)
                                  .Ended(2, v1::Ending::GUARD_LOST, 0)
                                  .Blames(0, 1, AbortReason::kPeerLost)
                                  .Blames(1, 0, AbortReason::kPeerLost)
                                  .Judged();
  EXPECT_EQ(judgement.causes.size(), 1u);
  EXPECT_EQ(judgement.verdict.exit_code(), 70);
  EXPECT_EQ(judgement.verdict.sentence(),
            "the guard process on host node-a died, and its workers were ended; 3 ranks ended because of it");
}

TEST(Verdict, ALostAgentIsNamed) {
  Told told(2);
  told.evidence().lost_agents.push_back({0, "node-a", "connection closed", 1000});
  EXPECT_EQ(told.Judged().causes.size(), 1u);
  EXPECT_EQ(told.Judged().verdict.sentence(),
            "the agent on host node-a was lost (connection closed); 2 ranks ended because of it");
}

// The lost agent's worker tells its peers before it ends, and they end because of it.
TEST(Verdict, ALostAgentIsNamedAloneWhenRanksElsewhereSayThatItIsGone) {
  Told told(3);
  told.evidence().members[0].node = 1;
  told.evidence().members[0].host = "node-b";
  told.evidence().lost_agents.push_back({1, "node-b", "its process was killed by SIGKILL", 1000});
  for (const uint32_t rank : {1u, 2u}) told.Blames(rank, 0, AbortReason::kAgentLost).Ended(rank, v1::Ending::EXITED, 1);
  EXPECT_EQ(told.Judged().causes.size(), 1u);
  EXPECT_EQ(told.Judged().verdict.sentence(),
            "the agent on host node-b was lost (its process was killed by SIGKILL); 3 ranks ended because of it");
}

TEST(Verdict, StopsFromOutsideHaveTheirOwnCodes) {
  const std::pair<StopKind, int> codes[] = {
      {StopKind::kInterrupt, 130}, {StopKind::kTerminate, 143}, {StopKind::kHangup, 129}, {StopKind::kTimeout, 124}};
  for (const auto& [kind, code] : codes) {
    Told told(1);
    told.ByUs(0).evidence().stop = kind;
    EXPECT_EQ(told.Judged().verdict.exit_code(), code);
    EXPECT_NE(told.Judged().verdict.sentence(), "");
  }
}

TEST(Verdict, WhoBlamesARankThatWeEndedIsAVictimOfOurStop) {
  Told told(3);
  told.Ended(0, v1::Ending::SIGNALED, 9, 1000)
      .ByUs(1)
      .Blames(2, 1, AbortReason::kPeerLost)
      .Ended(2, v1::Ending::EXITED, 1, 1100);
  EXPECT_EQ(told.Judged().verdict.rank(), 0);
  EXPECT_EQ(told.Judged().causes.size(), 1u);
  EXPECT_EQ(told.Judged().verdict.ended_with_it(), 2);
}

TEST(Verdict, WorkersEndedByNobodyWeKnowAreNoSuccess) {
  const Judgement judgement = Told(2).ByUs(0).ByUs(1).Blames(0, 1, AbortReason::kPeerLost).Judged();
  EXPECT_EQ(judgement.verdict.rank(), -1);
  EXPECT_EQ(judgement.verdict.exit_code(), 70);
  EXPECT_EQ(judgement.verdict.failure_class(), "stopped");
}

TEST(BlameGraph, CirclesAndWhatLeadsIntoThem) {
  BlameGraph graph;
  graph.AddBlame(5, 1);
  graph.AddBlame(1, 2);
  graph.AddBlame(2, 1);
  graph.AddRank(7);
  EXPECT_THAT(graph.Roots(), ElementsAre(1, 7));
  graph.AddBlame(6, 2);
  EXPECT_THAT(graph.Roots(), ElementsAre(1, 2, 7));
}

TEST(SignalName, KnownAndUnknown) {
  EXPECT_EQ(SignalName(9), "SIGKILL");
  EXPECT_EQ(SignalName(64), "signal 64");
}

TEST(Verdict, WhatAnotherTryMayCure) {
  Evidence evidence;
  EXPECT_TRUE(IsCurable(evidence));
  evidence.spawn_failures.push_back({0, 0, {}});
  v1::Ending& ending = evidence.spawn_failures[0].ending;
  ending.set_kind(v1::Ending::SPAWN_FAILED);
  ending.set_code(ENOMEM);
  EXPECT_TRUE(IsCurable(evidence));
  ending.set_code(ENOENT);  // its working directory
  EXPECT_FALSE(IsCurable(evidence));
  ending.set_kind(v1::Ending::NOT_EXECUTABLE);
  EXPECT_FALSE(IsCurable(evidence));
  evidence.spawn_failures.clear();
  evidence.fault = Evidence::Fault{73, "cannot write state", "disk full"};
  EXPECT_FALSE(IsCurable(evidence));
  evidence.fault->curable = true;
  EXPECT_TRUE(IsCurable(evidence));
  evidence.stop = StopKind::kTimeout;
  EXPECT_FALSE(IsCurable(evidence));
}

// Whether the agent had asked the rank to end by then, or it had ended well, does not matter.
TEST(Verdict, MpiAbortIsTheRanksOwnWithTheCodeItGave) {
  for (const int code : {7, 0}) {
    for (const bool expected : {false, true}) {
      Told told(3);
      told.Blames(1, 1, AbortReason::kMpi, "called MPI_Abort with code 7").Ended(1, v1::Ending::EXITED, code, 1000, expected);
      told.evidence().blames.back().set_exit_code(7);
      const Judgement judgement = told.ByUs(0).ByUs(2).Judged();
      EXPECT_EQ(judgement.verdict.exit_code(), 7);
      EXPECT_EQ(judgement.verdict.rank(), 1);
      EXPECT_EQ(judgement.verdict.sentence(),
                "rank 1 on host node-a called MPI_Abort with code 7; 2 other ranks ended because of it");
    }
  }
}

// mpi4py calls it for an exception; by then its agent may have been told to end it.
TEST(Verdict, WhatTheProgramSaidBeforeMpiAbortStandsInTheSentence) {
  Told told(2);
  told.Blames(1, 1, AbortReason::kMpi, "called MPI_Abort with code 1").Ended(1, v1::Ending::SIGNALED, 15, 1000, true);
  told.Said("ValueError: no such tape (tape.py, line 3)");
  const Judgement judgement = told.ByUs(0).Judged();
  EXPECT_EQ(judgement.verdict.sentence(),
            "rank 1 on host node-a called MPI_Abort with code 1: ValueError: no such tape (tape.py, line 3); "
            "1 other rank ended because of it");
  EXPECT_EQ(judgement.verdict.program_error(), "ValueError: no such tape (tape.py, line 3)");
  EXPECT_EQ(judgement.causes[0].program_trace, "Traceback: ValueError: no such tape (tape.py, line 3)");
}

TEST(Verdict, ARankThatEndedWellCanBeTheOneThatMpiMisses) {
  Told told(2);
  told.Ended(1, v1::Ending::EXITED, 0)
      .Blames(0, 1, AbortReason::kMpi, "ended with status 0 and never called MPI_Init, as rank 0 did");
  const Judgement judgement = told.ByUs(0).Judged();
  EXPECT_EQ(judgement.verdict.exit_code(), 70);
  EXPECT_EQ(judgement.verdict.rank(), 1);
  EXPECT_THAT(judgement.verdict.sentence(),
              HasSubstr("rank 1 on host node-a ended with status 0 and never called MPI_Init, as rank 0 did"));
}

TEST(Verdict, NamesTheProgramWhereThereAreSeveral) {
  Told told(3);
  told.evidence().members[0].program = "serve";
  told.evidence().members[1].program = told.evidence().members[2].program = "train";
  told.NotStarted(0, v1::Ending::NOT_FOUND, 2, "serve").NotStarted(1, v1::Ending::NOT_FOUND, 2, "train");
  told.NotStarted(2, v1::Ending::NOT_FOUND, 2, "train");
  const Judgement judgement = told.Judged();
  ASSERT_EQ(judgement.causes.size(), 2u);  // one a program
  EXPECT_EQ(judgement.causes[1].program, "train");
  EXPECT_EQ(judgement.verdict.program(), "serve");
}

}  // namespace
}  // namespace muster
