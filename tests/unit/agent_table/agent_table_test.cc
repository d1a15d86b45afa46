#include "launcher/agent/table/agent_table.h"

#include <errno.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/sha.h>
#include <signal.h>

#include <map>
#include <vector>

namespace muster {
namespace {

using agent::State;
using agent::Timer;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

int Exited(int code) { return code << 8; }
int Killed(int signal) { return signal; }

// An agent with a coordinator that answers, up to Spare.
class AgentTableTest : public ::testing::Test {
 protected:
  AgentTableTest() : machine_(TestOptions()) {
    Step(agent::Started{});
    v1::Join join;
    join.set_host("node-a");
    join.set_slots(4);
    Step(agent::PreflightDone{absl::OkStatus(), join});
    Step(agent::ChannelUp{});
    v1::CoordinatorMessage joined = Message(0);
    joined.mutable_joined()->set_node(0);
    Step(agent::Received{joined});
  }

  static agent::Options TestOptions() {
    agent::Options options;
    options.job_id = std::string(16, 'j');
    return options;
  }
  void Step(const agent::Event& event) { last_ = machine_.Step(kNow, event); }

  v1::CoordinatorMessage Message(uint64_t generation) {
    v1::CoordinatorMessage message;
    message.set_job_id(std::string(16, 'j'));
    message.set_generation(generation);
    message.set_incarnation(1);
    return message;
  }
  void Abandon(uint64_t generation, uint32_t grace_ms) {
    v1::CoordinatorMessage message = Message(generation);
    message.mutable_abandon()->set_reason("test");
    message.mutable_abandon()->set_grace_ms(grace_ms);
    Step(agent::Received{message});
  }
  void Prepare(uint64_t generation, int workers, uint32_t nodes = 1) {
    v1::CoordinatorMessage message = Message(generation);
    message.mutable_prepare()->set_nodes(nodes);
    message.mutable_prepare()->set_world_size(workers);
    for (int i = 0; i < workers; ++i) {
      v1::Place* place = message.mutable_prepare()->add_places();
      place->set_rank(10 + i);
      place->set_slot(i);
      place->set_local_rank(i);
    }
    Step(agent::Received{message});
  }
  void Go(uint64_t generation) {
    v1::CoordinatorMessage message = Message(generation);
    message.mutable_go();
    Step(agent::Received{message});
  }
  void Stop(int grace_ms) {
    v1::CoordinatorMessage message = Message(1);
    message.mutable_stop()->set_grace_ms(grace_ms);
    message.mutable_stop()->set_reason("test");
    Step(agent::Received{message});
  }
  void Run(int workers) {
    Prepare(1, workers);
    for (int i = 0; i < workers; ++i) Step(agent::Spawned{static_cast<uint32_t>(i), 100 + i});
    Go(1);
    ASSERT_EQ(machine_.state(), State::kRunning);
  }

  template <typename T>
  std::vector<T> Last() {
    std::vector<T> found;
    for (const agent::Action& action : last_) {
      if (const T* it = std::get_if<T>(&action)) found.push_back(*it);
    }
    return found;
  }

  AgentTable machine_;
  agent::Actions last_;
};

TEST_F(AgentTableTest, TheTableIsComplete) {
  EXPECT_EQ(AgentTable::CheckTable(), "");
  EXPECT_THAT(AgentTable::PrintTable(), HasSubstr("READY  Go  -> RUNNING"));
}

TEST_F(AgentTableTest, ReadyIsSentWhenAllHaveExeced) {
  EXPECT_EQ(machine_.state(), State::kSpare);
  Prepare(1, 2);
  ASSERT_EQ(Last<agent::Spawn>().size(), 2u);
  EXPECT_EQ(Last<agent::Spawn>()[1].place.rank(), 11u);
  Step(agent::Spawned{0, 100});
  EXPECT_TRUE(Last<agent::Send>().empty());
  EXPECT_EQ(Last<agent::ExpectWorker>()[0].pid, 100);
  Step(agent::Spawned{1, 101});
  ASSERT_EQ(Last<agent::Send>().size(), 1u);
  EXPECT_TRUE(Last<agent::Send>()[0].message.has_ready());
  EXPECT_TRUE(Last<agent::BeginGeneration>().empty());
  Go(1);
  EXPECT_EQ(Last<agent::BeginGeneration>().size(), 1u);
}

TEST_F(AgentTableTest, AProgramThatIsNotThereIsTold) {
  Prepare(1, 1);
  Step(agent::SpawnFailed{0, ENOENT, "execve /no/such"});
  const auto sent = Last<agent::Send>();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].message.prepare_failed().ending().kind(), v1::Ending::NOT_FOUND);
  EXPECT_EQ(sent[0].message.prepare_failed().ending().detail(), "/no/such");
  EXPECT_EQ(machine_.state(), State::kSpawning);
}

TEST_F(AgentTableTest, StopIsKindFirstAndHardAfterTheGrace) {
  Run(2);
  Stop(5000);
  EXPECT_EQ(machine_.state(), State::kStopping);
  ASSERT_EQ(Last<agent::SignalWorker>().size(), 2u);
  EXPECT_EQ(Last<agent::SignalWorker>()[0].signal, SIGTERM);
  EXPECT_TRUE(Last<agent::EndTree>().empty());
  Step(agent::Ended{.slot = 0, .wait_status = Killed(SIGTERM)});
  EXPECT_TRUE(Last<agent::Send>()[0].message.worker_ended().expected());
  Step(agent::TimerFired{Timer::kGrace});
  EXPECT_EQ(Last<agent::EndTree>().size(), 1u);
  EXPECT_EQ(Last<agent::EndGeneration>().size(), 1u);
  Step(agent::Ended{.slot = 1, .wait_status = Killed(SIGKILL)});
  EXPECT_TRUE(Last<agent::Send>()[0].message.worker_ended().expected());
  EXPECT_EQ(machine_.state(), State::kStopping);
  Step(agent::TreeEnded{});
  EXPECT_EQ(machine_.state(), State::kGone);
  EXPECT_TRUE(Last<agent::Send>()[0].message.has_stopped());
  EXPECT_TRUE(Last<agent::Gone>()[0].status.ok());
}

TEST_F(AgentTableTest, WhatTheLastWorkerLeftBehindIsEnded) {
  Run(1);
  Stop(5000);
  Step(agent::Ended{.slot = 0, .wait_status = Exited(0)});
  EXPECT_EQ(Last<agent::EndTree>().size(), 1u);
}

TEST_F(AgentTableTest, ADeathBeforeStopIsUnexpectedThoughItsEndIsSeenLater) {
  Run(2);
  Step(agent::WorkerLost{1});
  Stop(400);
  Step(agent::Ended{.slot = 1, .wait_status = Killed(SIGKILL), .had_joined = true});
  EXPECT_FALSE(Last<agent::Send>()[0].message.worker_ended().expected());
  // Also when no session told of it: SIGKILL is not what we sent.
  Step(agent::Ended{.slot = 0, .wait_status = Killed(SIGKILL)});
  EXPECT_FALSE(Last<agent::Send>()[0].message.worker_ended().expected());
}

TEST_F(AgentTableTest, ARankThatLeftBeforeStopIsNotEndedByUs) {
  Run(2);
  Step(agent::WorkerLeft{0});
  Stop(400);
  Step(agent::Ended{.slot = 0, .wait_status = Exited(0), .had_joined = true, .had_left = true});
  EXPECT_FALSE(Last<agent::Send>()[0].message.worker_ended().expected());
}

TEST_F(AgentTableTest, AGuardThatDiesTakesItsWorkersAlong) {
  Run(2);
  Step(agent::Ended{.slot = 0, .wait_status = Exited(0)});
  Step(agent::GuardLost{});
  EXPECT_EQ(machine_.state(), State::kGone);
  const auto sent = Last<agent::Send>();
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_EQ(sent[0].message.worker_ended().ending().kind(), v1::Ending::GUARD_LOST);
  EXPECT_EQ(sent[0].message.worker_ended().slot(), 1u);
  EXPECT_FALSE(sent[0].message.worker_ended().expected());
  EXPECT_TRUE(sent[1].message.has_stopped());
}

TEST_F(AgentTableTest, WithoutACoordinatorWorkersAreEndedInTheEnd) {
  Run(1);
  Step(agent::ChannelLost{});
  ASSERT_EQ(Last<agent::SetTimer>().size(), 1u);
  EXPECT_EQ(Last<agent::SetTimer>()[0].after, absl::Seconds(40));
  Step(agent::TimerFired{Timer::kOrphan});
  EXPECT_EQ(machine_.state(), State::kStopping);
  EXPECT_EQ(Last<agent::EndTree>().size(), 1u);
}

TEST_F(AgentTableTest, ANewCoordinatorIsToldEverythingAgain) {
  Run(2);
  Step(agent::ChannelLost{});
  Step(agent::Ended{.slot = 0, .wait_status = Exited(3)});
  EXPECT_TRUE(Last<agent::Send>().empty());
  Step(agent::ChannelUp{});
  const auto sent = Last<agent::Send>();
  ASSERT_EQ(sent.size(), 3u);
  EXPECT_TRUE(sent[0].message.has_join());
  EXPECT_EQ(sent[0].message.generation(), 1u);
  EXPECT_TRUE(sent[1].message.has_ready());
  EXPECT_EQ(sent[2].message.worker_ended().ending().code(), 3);
}

TEST_F(AgentTableTest, OldGenerationsAndIncarnationsAreRefused) {
  Run(1);
  const uint64_t stale = machine_.stale_messages();
  Prepare(1, 1);
  Go(7);
  v1::CoordinatorMessage old = Message(1);
  old.set_incarnation(0);
  old.mutable_stop();
  Step(agent::Received{old});
  EXPECT_EQ(machine_.stale_messages(), stale + 3);
  EXPECT_EQ(machine_.state(), State::kRunning);
}

TEST_F(AgentTableTest, AnAbandonedGenerationMakesRoomForTheNext) {
  Prepare(1, 1);
  Step(agent::Spawned{0, 100});
  v1::CoordinatorMessage abandon = Message(1);
  abandon.mutable_abandon()->set_reason("test");
  Step(agent::Received{abandon});
  EXPECT_EQ(machine_.state(), State::kReconfig);
  Prepare(2, 1);
  EXPECT_EQ(machine_.state(), State::kReconfig);
  Step(agent::Ended{.slot = 0, .wait_status = Killed(SIGKILL)});
  Step(agent::TreeEnded{});
  EXPECT_EQ(machine_.state(), State::kSpawning);
  EXPECT_EQ(machine_.generation(), 2u);
  EXPECT_EQ(Last<agent::Spawn>()[0].spawn, 2u);
}

TEST_F(AgentTableTest, AnAbandonedGenerationIsEndedKindlyAndToldCleared) {
  Run(2);
  Abandon(1, 400);
  EXPECT_EQ(machine_.state(), State::kReconfig);
  ASSERT_EQ(Last<agent::SignalWorker>().size(), 2u);
  EXPECT_TRUE(Last<agent::EndTree>().empty());
  Step(agent::Ended{.slot = 0, .wait_status = Killed(SIGTERM)});
  EXPECT_TRUE(Last<agent::Send>()[0].message.worker_ended().expected());
  Step(agent::TimerFired{Timer::kGrace});
  EXPECT_EQ(Last<agent::EndTree>().size(), 1u);
  Step(agent::Ended{.slot = 1, .wait_status = Killed(SIGKILL)});
  for (const auto& send : Last<agent::Send>()) EXPECT_FALSE(send.message.has_cleared());
  Step(agent::TreeEnded{});
  ASSERT_EQ(Last<agent::Send>().size(), 1u);
  EXPECT_TRUE(Last<agent::Send>()[0].message.has_cleared());
  EXPECT_EQ(Last<agent::Send>()[0].message.generation(), 1u);
  EXPECT_EQ(machine_.state(), State::kSpare);
  // A coordinator that starts anew has to know how it ended here.
  Step(agent::ChannelLost{});
  Step(agent::ChannelUp{});
  const auto sent = Last<agent::Send>();
  ASSERT_EQ(sent.size(), 5u);  // Join, Ready, two endings, Cleared
  EXPECT_TRUE(sent[4].message.has_cleared());
}

TEST_F(AgentTableTest, AWaitingGenerationCanBeAbandonedToo) {
  Run(1);
  Abandon(1, 0);
  Prepare(2, 1);
  Abandon(2, 0);
  ASSERT_EQ(Last<agent::Send>().size(), 1u);
  EXPECT_TRUE(Last<agent::Send>()[0].message.has_cleared());
  EXPECT_EQ(Last<agent::Send>()[0].message.generation(), 2u);
  Step(agent::Ended{.slot = 0, .wait_status = Killed(SIGKILL)});
  Step(agent::TreeEnded{});
  EXPECT_EQ(machine_.state(), State::kSpare);
}

TEST_F(AgentTableTest, NewsOfAnEarlierProcessIsDropped) {
  Run(1);
  Abandon(1, 0);
  Step(agent::Ended{.slot = 0, .wait_status = Killed(SIGKILL), .spawn = 1});
  Step(agent::TreeEnded{});
  Prepare(2, 1);
  Step(agent::Spawned{.slot = 0, .pid = 200, .spawn = 2});
  Go(2);
  ASSERT_EQ(machine_.state(), State::kRunning);
  Step(agent::Ended{.slot = 0, .wait_status = Killed(SIGKILL), .spawn = 1});
  Step(agent::WorkerBlamed{.slot = 0, .blamed_rank = 3, .spawn = 1});
  EXPECT_TRUE(Last<agent::Send>().empty());
  EXPECT_EQ(machine_.workers_alive(), 1u);
}

TEST_F(AgentTableTest, SeveralNodesAskForTheTableAndCheckIt) {
  Prepare(1, 1, 2);
  Step(agent::Spawned{.slot = 0, .pid = 100, .data_port = 4242});
  ASSERT_EQ(Last<agent::Send>().size(), 1u);
  EXPECT_EQ(Last<agent::Send>()[0].message.ready().places(0).data_port(), 4242u);
  EXPECT_EQ(Last<agent::Send>()[0].message.ready().places(0).spawn(), 1u);
  v1::CoordinatorMessage table = Message(1);
  table.mutable_members()->add_places()->set_data_port(4242);
  const std::string bytes = table.members().SerializeAsString();
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), reinterpret_cast<unsigned char*>(digest.data()));
  v1::CoordinatorMessage go = Message(1);
  go.mutable_go()->set_members_sha256(digest);
  Step(agent::Received{go});
  EXPECT_EQ(machine_.state(), State::kAsking);
  EXPECT_EQ(Last<agent::Send>()[0].message.members_request().members_sha256(), digest);
  v1::CoordinatorMessage wrong = table;
  wrong.mutable_members()->add_places();
  Step(agent::Received{wrong});
  EXPECT_EQ(machine_.state(), State::kAsking);
  Step(agent::Received{table});
  EXPECT_EQ(machine_.state(), State::kRunning);
  ASSERT_EQ(Last<agent::BeginGeneration>().size(), 1u);
  EXPECT_EQ(Last<agent::BeginGeneration>()[0].members->places_size(), 1);
}

TEST_F(AgentTableTest, ANewCheckpointIsToldThoughTheStepIsOld) {
  Run(1);
  Step(agent::StepReported{.slot = 0, .step = 7});
  EXPECT_EQ(Last<agent::Send>().size(), 1u);
  Step(agent::StepReported{.slot = 0, .step = 7, .checkpoint_step = 5});
  ASSERT_EQ(Last<agent::Send>().size(), 1u);
  EXPECT_EQ(Last<agent::Send>()[0].message.step_committed().checkpoint_step(), 5);
  Step(agent::StepReported{.slot = 0, .step = 7, .checkpoint_step = 5});
  EXPECT_TRUE(Last<agent::Send>().empty());
}

TEST_F(AgentTableTest, TheCoordinatorHearsHeartbeatsWhileConnected) {
  Step(agent::TimerFired{Timer::kHeartbeat});
  ASSERT_EQ(Last<agent::Send>().size(), 1u);
  EXPECT_TRUE(Last<agent::Send>()[0].message.has_heartbeat());
  EXPECT_EQ(Last<agent::SetTimer>().size(), 1u);
}

}  // namespace
}  // namespace muster
