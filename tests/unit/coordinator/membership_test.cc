#include "launcher/coordinator/membership.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "proto/muster/v1/control_memory.h"

namespace muster {
namespace {

using membership::State;
using membership::Timer;
using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

// A coordinator whose record answers when the test says so, and two nodes' worth of messages to it.
class MembershipTest : public ::testing::Test {
 protected:
  MembershipTest() { Start({}); }

  void Start(std::vector<v1::RecordEntry> entries) {
    membership::Options options;
    options.job_id = std::string(16, 'j');
    options.workers = 3;
    options.workers_min = workers_min_;
    options.nodes = nodes_;
    options.max_restarts = max_restarts_;
    options.applications = applications_;
    options.place = place_;
    options.output_files = output_files_;
    options.order = order_;
    options.nccl = nccl_;
    options.show_nccl = show_nccl_;
    options.random_bytes = [](size_t bytes) { return std::string(bytes, 'k'); };
    machine_.emplace(options);
    appends_.clear();
    sent_.clear();
    finished_.reset();
    timers_.clear();
    Step(membership::RecordLoaded{std::move(entries)});
  }

  void Step(const membership::Event& event) {
    for (membership::Action& action : machine_->Step(kNow, event)) {
      if (auto* append = std::get_if<membership::AppendRecord>(&action)) appends_.push_back(*append);
      if (auto* send = std::get_if<membership::Send>(&action)) sent_.push_back(*send);
      if (auto* finish = std::get_if<membership::Finish>(&action)) finished_ = finish->judgement;
      if (auto* restart = std::get_if<membership::Restarting>(&action)) restarting_ = *restart;
      if (auto* placed = std::get_if<membership::Placed>(&action)) placed_ = placed->lines;
      if (auto* happened = std::get_if<membership::Happened>(&action)) happened_.push_back(happened->event.kind());
      if (auto* timer = std::get_if<membership::SetTimer>(&action)) timers_[timer->timer] = timer->after;
      if (auto* timer = std::get_if<membership::CancelTimer>(&action)) timers_.erase(timer->timer);
    }
  }
  void Durable() { Step(membership::Appended{appends_.back().sequence}); }

  v1::AgentMessage Message(uint64_t generation) {
    v1::AgentMessage message;
    message.set_job_id(machine_->job_id());
    message.set_generation(generation);
    return message;
  }
  void Join(uint32_t node, uint32_t slots, uint64_t generation = 0) {
    v1::AgentMessage message = Message(generation);
    message.mutable_join()->set_host("node-" + std::string(1, static_cast<char>('a' + node)));
    message.mutable_join()->set_slots(slots);
    message.mutable_join()->set_address("10.0.0." + std::to_string(node));
    message.mutable_join()->set_master_port(7000 + node);
    Step(membership::Received{node, message});
  }
  void Ready(uint32_t node, uint32_t spawn = 1) {
    v1::AgentMessage message = Message(machine_->generation());
    message.mutable_ready();
    for (const v1::Place& place : machine_->members().places()) {
      if (place.node() != node) continue;
      v1::Place* told = message.mutable_ready()->add_places();
      *told = place;
      told->set_spawn(spawn);
      told->set_data_port(40000 + place.rank());
    }
    Step(membership::Received{node, message});
  }
  void Ended(uint32_t node, uint32_t rank, v1::Ending::Kind kind, int code, bool expected = false) {
    v1::AgentMessage message = Message(machine_->generation());
    v1::WorkerEnded* ended = message.mutable_worker_ended();
    ended->set_slot(rank);
    ended->set_rank(rank);
    ended->set_spawn(1);
    ended->set_expected(expected);
    ended->mutable_ending()->set_kind(kind);
    ended->mutable_ending()->set_code(code);
    ended->set_when_ms(1000 + rank);
    Step(membership::Received{node, message});
  }
  void Blamed(uint32_t node, uint32_t rank, uint32_t blamed) {
    v1::AgentMessage message = Message(machine_->generation());
    message.mutable_peer_blamed()->set_rank(rank);
    message.mutable_peer_blamed()->set_blamed_rank(blamed);
    message.mutable_peer_blamed()->set_reason(static_cast<uint32_t>(v1::AbortReason::kPeerLost));
    Step(membership::Received{node, message});
  }
  void AskedToEnd(uint32_t node) {
    v1::AgentMessage message = Message(0);
    message.mutable_asked_to_end()->set_signal(15);
    Step(membership::Received{node, message});
  }
  void Cleared(uint32_t node) {
    v1::AgentMessage message = Message(machine_->generation());
    message.mutable_cleared();
    Step(membership::Received{node, message});
  }
  void Committed(uint32_t node, int64_t step, int64_t checkpoint) {
    v1::AgentMessage message = Message(machine_->generation());
    message.mutable_step_committed()->set_step(step);
    message.mutable_step_committed()->set_checkpoint_step(checkpoint);
    Step(membership::Received{node, message});
  }
  // A job of three workers on two nodes that may be restarted.
  void RunRestartable(uint32_t max_restarts, uint32_t workers_min = 0) {
    max_restarts_ = max_restarts;
    workers_min_ = workers_min;
    Start({});
    Run();
  }
  // Rank 2, on node 1, is killed, and all workers are gone.
  void FailAndClear() {
    Ended(1, 2, v1::Ending::SIGNALED, 9);
    Step(membership::TimerFired{Timer::kEnd});
    ASSERT_EQ(machine_->state(), State::kRecalling);
    Ended(0, 0, v1::Ending::SIGNALED, 15, true);
    Ended(0, 1, v1::Ending::SIGNALED, 15, true);
    Cleared(0);
    Cleared(1);
  }
  void RunAgain() {
    Durable();
    Ready(0, 2);
    Ready(1, 2);
    Durable();
    ASSERT_EQ(machine_->state(), State::kRunning);
  }
  void Stopped(uint32_t node) {
    v1::AgentMessage message = Message(machine_->generation());
    message.mutable_stopped();
    Step(membership::Received{node, message});
  }
  // Node 0 with two slots and node 1 with one.
  void Form() {
    Durable();
    Join(0, 2);
    Join(1, 1);
  }
  void Run() {
    Form();
    Durable();
    Ready(0);
    Ready(1);
    Durable();
    ASSERT_EQ(machine_->state(), State::kRunning);
  }
  int CountSent(v1::CoordinatorMessage::KindCase kind) {
    int count = 0;
    for (const auto& send : sent_) count += send.message.kind_case() == kind;
    return count;
  }
  std::vector<v1::RecordEntry> Written() {
    std::vector<v1::RecordEntry> entries;
    for (const auto& append : appends_) entries.push_back(append.entry);
    return entries;
  }

  std::optional<Membership> machine_;
  std::vector<membership::AppendRecord> appends_;
  std::vector<membership::Send> sent_;
  std::optional<Judgement> finished_;
  std::map<Timer, absl::Duration> timers_;
  std::optional<membership::Restarting> restarting_;
  std::vector<std::string> happened_;
  uint32_t max_restarts_ = 0;
  uint32_t workers_min_ = 0;
  uint32_t nodes_ = 0;
  std::vector<membership::Application> applications_;
  membership::PlaceFunction place_;
  bool output_files_ = false;
  membership::OrderFunction order_;
  membership::NcclFunction nccl_;
  bool show_nccl_ = false;
  std::vector<std::string> placed_;
};

TEST_F(MembershipTest, TheTableIsComplete) {
  EXPECT_EQ(Membership::CheckTable(), "");
  EXPECT_THAT(Membership::PrintTable(), HasSubstr("RUNNING  WorkerEnded  -> stay  evidence"));
}

TEST_F(MembershipTest, EveryWaitHasAnEndExceptTheWorkers) {
  const std::string text = Membership::PrintTable();
  EXPECT_THAT(text, HasSubstr("FORMING: waits for enough nodes to join; warns after 10s, ends after 1m\n"));
  const auto limits = membership::Options::DefaultLimits();
  for (const State state :
       {State::kRecover, State::kResuming, State::kForming, State::kTaking, State::kPreparing, State::kCommitting,
        State::kSettling, State::kRecalling, State::kClosing, State::kQuiescing, State::kConcluding}) {
    EXPECT_LT(limits[static_cast<size_t>(state)].end, absl::InfiniteDuration()) << membership::StateName(state);
  }
}

// Ranks 0 and 2 on node 1, rank 1 on node 0.
absl::StatusOr<membership::Seating> Crosswise(uint32_t workers, const std::vector<membership::NodeOffer>& offers) {
  EXPECT_EQ(workers, 3u);
  EXPECT_EQ(offers.size(), 2u);
  EXPECT_EQ(offers[0].topology.xml(), "machine of 0");
  return membership::Seating{{{1, 0, "4", "0"}, {0, 0, "5-6", "1"}, {1, 1, "", ""}}, {"rank 0 is there"}};
}

TEST_F(MembershipTest, EachNodeIsToldWhatItsNcclIsToKnow) {
  std::vector<std::string> seen;
  nccl_ = [&seen](const std::vector<membership::NodeOffer>& offers) {
    membership::NcclDecision decision;
    for (const membership::NodeOffer& offer : offers) {
      seen.push_back(offer.address);
      v1::NcclVariable* one = decision.environments.emplace_back().add_variables();
      one->set_name("NCCL_IB_HCA");
      one->set_value("=" + offer.host);
    }
    decision.environments.back().clear_variables();  // nothing
    decision.reasons = {"a reason"};
    decision.notes = {"a doubt"};
    return decision;
  };
  order_ = [](const std::vector<membership::NodeOffer>& offers, const std::vector<uint32_t>&) {
    membership::NodeOrder order;
    for (const membership::NodeOffer& offer : offers) order.nodes.insert(order.nodes.begin(), offer.node);
    return order;
  };
  show_nccl_ = true;
  RunRestartable(1);
  EXPECT_EQ(seen, (std::vector<std::string>{"10.0.0.1", "10.0.0.0"})) << "in the order of the ranks";
  EXPECT_EQ(machine_->nccl(), std::vector<std::string>{"a reason"});
  EXPECT_EQ(machine_->nccl_notes(), std::vector<std::string>{"a doubt"});
  EXPECT_EQ(placed_, std::vector<std::string>{"a reason"});
  EXPECT_EQ(std::count(happened_.begin(), happened_.end(), "nccl"), 2);
  int prepares = 0;
  for (const membership::Send& send : sent_) {
    if (!send.message.has_prepare()) continue;
    ++prepares;
    EXPECT_EQ(send.message.prepare().has_nccl(), send.node == 1);
    if (send.node == 1) {
      EXPECT_EQ(send.message.prepare().nccl().variables(0).value(), "=node-b");
    }
  }
  EXPECT_EQ(prepares, 2);
  // The next generation is asked about anew; what has not changed is not said again.
  Ended(1, 0, v1::Ending::SIGNALED, 9);
  Step(membership::TimerFired{Timer::kEnd});
  Ended(0, 1, v1::Ending::SIGNALED, 15, true);
  Ended(0, 2, v1::Ending::SIGNALED, 15, true);
  Cleared(0);
  Cleared(1);
  Durable();  // the end of generation 1
  Durable();  // the number of generation 2
  EXPECT_EQ(machine_->state(), State::kPreparing);
  EXPECT_EQ(seen.size(), 4u);
  EXPECT_EQ(std::count(happened_.begin(), happened_.end(), "nccl"), 2);
}

TEST_F(MembershipTest, RanksFollowThePlannedOrderOfNodes) {
  std::vector<std::vector<uint32_t>> formers;
  order_ = [&formers](const std::vector<membership::NodeOffer>& offers, const std::vector<uint32_t>& former) {
    formers.push_back(former);
    membership::NodeOrder order;
    for (const membership::NodeOffer& offer : offers) order.nodes.insert(order.nodes.begin(), offer.node);
    order.plan = "ranks follow " + offers[0].network.source();
    order.notes = {"a doubt"};
    return order;
  };
  RunRestartable(1);
  ASSERT_EQ(machine_->members().nodes_size(), 2);
  EXPECT_EQ(machine_->members().nodes(0).node(), 1u);
  EXPECT_EQ(machine_->members().places(0).node(), 1u);
  EXPECT_EQ(machine_->members().places(1).node(), 0u);
  EXPECT_EQ(machine_->members().places(2).node(), 0u);
  EXPECT_EQ(machine_->plan(), "ranks follow ");
  EXPECT_EQ(std::count(happened_.begin(), happened_.end(), "planned"), 1);
  EXPECT_EQ(std::count(happened_.begin(), happened_.end(), "network"), 1);
  // The next generation's order is asked for with this one's before it; nothing has changed, so nothing is said again.
  Ended(1, 0, v1::Ending::SIGNALED, 9);
  Step(membership::TimerFired{Timer::kEnd});
  Ended(0, 1, v1::Ending::SIGNALED, 15, true);
  Ended(0, 2, v1::Ending::SIGNALED, 15, true);
  Cleared(0);
  Cleared(1);
  Durable();  // the end of generation 1
  Durable();  // the number of generation 2
  EXPECT_EQ(machine_->state(), State::kPreparing);
  EXPECT_EQ(formers, (std::vector<std::vector<uint32_t>>{{}, {1, 0}}));
  EXPECT_EQ(std::count(happened_.begin(), happened_.end(), "planned"), 1);
  EXPECT_EQ(std::count(happened_.begin(), happened_.end(), "network"), 1);
}

TEST_F(MembershipTest, PlacementWaitsForTopologiesAndReachesTheAgents) {
  place_ = Crosswise;
  Start({});
  Form();
  EXPECT_EQ(machine_->state(), State::kForming) << "nobody has said yet what its machine looks like";
  for (const uint32_t node : {0u, 1u}) {
    v1::AgentMessage message = Message(0);
    message.mutable_topology()->set_xml("machine of " + std::to_string(node));
    Step(membership::Received{node, message});
  }
  EXPECT_EQ(machine_->state(), State::kTaking);
  Durable();
  EXPECT_EQ(machine_->state(), State::kPreparing);
  EXPECT_THAT(placed_, ::testing::ElementsAre("rank 0 is there"));
  const v1::Members& members = machine_->members();
  ASSERT_EQ(members.places_size(), 3);
  EXPECT_EQ(members.places(0).node(), 1u);
  EXPECT_EQ(members.places(0).cpus(), "4");
  EXPECT_EQ(members.places(1).cpus(), "5-6");
  EXPECT_EQ(members.places(1).memory_nodes(), "1");
  EXPECT_EQ(members.places(2).local_rank(), 1u);
}

TEST_F(MembershipTest, APlacementThatCannotBeHadEndsTheJobWithItsSentence) {
  place_ = [](uint32_t, const std::vector<membership::NodeOffer>&) {
    return absl::StatusOr<membership::Seating>(absl::ResourceExhaustedError("too few cores"));
  };
  max_restarts_ = 3;
  Start({});
  Form();
  for (const uint32_t node : {0u, 1u}) {
    v1::AgentMessage message = Message(0);
    message.mutable_topology();
    Step(membership::Received{node, message});
  }
  Durable();
  EXPECT_EQ(CountSent(v1::CoordinatorMessage::kPrepare), 0);
  Stopped(0);
  Stopped(1);
  Durable();
  ASSERT_TRUE(finished_.has_value()) << membership::StateName(machine_->state());
  EXPECT_EQ(finished_->verdict.exit_code(), 69);
  EXPECT_EQ(finished_->verdict.sentence(), "too few cores");
}

TEST_F(MembershipTest, NothingStartsBeforeOutputFilesCanBeMadeEverywhere) {
  output_files_ = true;
  Start({});
  Form();
  EXPECT_EQ(machine_->state(), State::kForming);
  for (const uint32_t node : {0u, 1u}) {
    EXPECT_EQ(machine_->state(), State::kForming);
    v1::AgentMessage message = Message(0);
    message.mutable_output_ready();
    Step(membership::Received{node, message});
  }
  EXPECT_EQ(machine_->state(), State::kTaking);
}

TEST_F(MembershipTest, NoPrepareBeforeItsNumberIsDurable) {
  Form();
  EXPECT_EQ(machine_->state(), State::kTaking);
  EXPECT_TRUE(appends_.back().entry.has_generation_taken());
  EXPECT_EQ(CountSent(v1::CoordinatorMessage::kPrepare), 0);
  Durable();
  EXPECT_EQ(CountSent(v1::CoordinatorMessage::kPrepare), 2);
}

TEST_F(MembershipTest, NoGoBeforeTheGenerationIsDurable) {
  Form();
  Durable();
  Ready(0);
  EXPECT_EQ(machine_->state(), State::kPreparing);
  Ready(1);
  EXPECT_EQ(machine_->state(), State::kCommitting);
  EXPECT_EQ(appends_.back().entry.generation_formed().members().places_size(), 3);
  EXPECT_EQ(CountSent(v1::CoordinatorMessage::kGo), 0);
  Durable();
  EXPECT_EQ(CountSent(v1::CoordinatorMessage::kGo), 2);
}

TEST_F(MembershipTest, APrepareHoldsOwnPlacesAndTheirNeighbours) {
  Form();
  Durable();
  const auto prepare =
      std::find_if(sent_.begin(), sent_.end(), [](const auto& send) { return send.node == 1 && send.message.has_prepare(); });
  ASSERT_NE(prepare, sent_.end());
  const v1::Prepare& it = prepare->message.prepare();
  EXPECT_EQ(prepare->message.generation(), 1u);
  EXPECT_EQ(it.world_size(), 3u);
  EXPECT_EQ(it.nodes(), 2u);
  EXPECT_EQ(it.group_rank(), 1u);
  ASSERT_EQ(it.places_size(), 1);
  EXPECT_EQ(it.places(0).rank(), 2u);
  EXPECT_EQ(it.places(0).local_rank(), 0u);
  ASSERT_EQ(it.neighbours_size(), 2);
  EXPECT_EQ(it.neighbours(0).rank(), 1u);
  EXPECT_EQ(it.neighbours(1).rank(), 0u);
  EXPECT_EQ(it.master_address(), "10.0.0.0");
  EXPECT_EQ(it.master_port(), 7000u);
  EXPECT_EQ(it.key().size(), 32u);
  EXPECT_EQ(it.members_sha256().size(), 32u);
}

TEST_F(MembershipTest, AllExitedWithZeroIsDone) {
  Run();
  for (uint32_t rank = 0; rank < 3; ++rank) Ended(rank / 2, rank, v1::Ending::EXITED, 0);
  EXPECT_EQ(machine_->state(), State::kQuiescing);
  EXPECT_EQ(CountSent(v1::CoordinatorMessage::kStop), 2);
  Stopped(0);
  Stopped(1);
  EXPECT_EQ(machine_->state(), State::kConcluding);
  EXPECT_FALSE(finished_);
  Durable();
  EXPECT_EQ(machine_->state(), State::kDone);
  ASSERT_TRUE(finished_);
  EXPECT_EQ(finished_->verdict.exit_code(), 0);
  EXPECT_EQ(finished_->verdict.sentence(), "");
}

TEST_F(MembershipTest, AKilledWorkerEndsTheJobWithItsName) {
  Run();
  Ended(1, 2, v1::Ending::SIGNALED, 9);
  EXPECT_EQ(machine_->state(), State::kSettling);
  EXPECT_EQ(timers_[Timer::kEnd], absl::Milliseconds(100));
  Step(membership::TimerFired{Timer::kEnd});
  EXPECT_EQ(machine_->state(), State::kQuiescing);
  EXPECT_EQ(sent_.back().message.stop().grace_ms(), 400u);
  Ended(0, 0, v1::Ending::SIGNALED, 15, true);
  Ended(0, 1, v1::Ending::SIGNALED, 15, true);
  Stopped(0);
  Stopped(1);
  Durable();
  EXPECT_EQ(machine_->state(), State::kFailed);
  EXPECT_EQ(finished_->verdict.exit_code(), 137);
  EXPECT_EQ(finished_->verdict.sentence(),
            "rank 2 on host node-b was killed by signal 9 (SIGKILL); 2 other ranks ended because of it");
}

TEST_F(MembershipTest, StopOnceIsKindAndTwiceIsNow) {
  Run();
  Step(membership::StopRequested{StopKind::kInterrupt});
  EXPECT_EQ(machine_->state(), State::kQuiescing);
  EXPECT_EQ(sent_.back().message.stop().grace_ms(), 5000u);
  Step(membership::StopRequested{StopKind::kInterrupt});
  EXPECT_EQ(sent_.back().message.stop().grace_ms(), 0u);
  Stopped(0);
  Stopped(1);
  Durable();
  EXPECT_EQ(finished_->verdict.exit_code(), 130);
}

TEST_F(MembershipTest, AStopSaysWhoAsked) {
  Run();
  Step(membership::StopRequested{StopKind::kTerminate, "muster cancel of ann@login"});
  Stopped(0);
  Stopped(1);
  Durable();
  EXPECT_EQ(finished_->verdict.sentence(), "terminated (SIGTERM) by muster cancel of ann@login");
}

TEST_F(MembershipTest, ATimeLimitSaysWhereTheRanksWere) {
  Run();
  membership::StopRequested stop{StopKind::kTimeout};
  for (const uint32_t rank : {0u, 1u}) {
    v1::RankState& state = stop.states.emplace_back();
    state.set_rank(rank);
    state.set_joined(true);
    state.set_op_seq(7);
    state.set_op("barrier");
  }
  Step(stop);
  Stopped(0);
  Stopped(1);
  Durable();
  EXPECT_EQ(finished_->verdict.exit_code(), 124);
  EXPECT_THAT(finished_->verdict.sentence(), HasSubstr("rank 2 on host node-b: unknown: the agent of host node-b did not answer; ranks "
                                                       "0, 1 are in barrier (op 7)"));
  EXPECT_EQ(finished_->verdict.rank(), 2);
  EXPECT_EQ(finished_->verdict.host(), "node-b");
}

TEST_F(MembershipTest, AnAgentThatIsAskedToEndEndsTheJobKindly) {
  Run();
  AskedToEnd(1);
  EXPECT_EQ(machine_->state(), State::kQuiescing);
  EXPECT_EQ(sent_.back().message.stop().grace_ms(), 5000u);
  // A batch system asks the job too: that is one request. The next one is another.
  Step(membership::StopRequested{StopKind::kTerminate, "process 7"});
  EXPECT_EQ(sent_.back().message.stop().grace_ms(), 5000u);
  Step(membership::StopRequested{StopKind::kTerminate});
  EXPECT_EQ(sent_.back().message.stop().grace_ms(), 0u);
  Stopped(0);
  Stopped(1);
  Durable();
  EXPECT_EQ(finished_->verdict.exit_code(), 143);
  EXPECT_EQ(finished_->verdict.sentence(), "terminated (SIGTERM) by process 7");
}

TEST_F(MembershipTest, AnAgentThatIsAskedToEndIsReplacedWhereThatIsAllowed) {
  RunRestartable(1);
  AskedToEnd(1);
  EXPECT_EQ(machine_->state(), State::kSettling);
  Step(membership::TimerFired{Timer::kEnd});
  ASSERT_EQ(machine_->state(), State::kRecalling);
  Ended(0, 0, v1::Ending::SIGNALED, 15, true);
  Ended(0, 1, v1::Ending::SIGNALED, 15, true);
  Cleared(0);
  EXPECT_EQ(machine_->state(), State::kClosing);
  Durable();
  EXPECT_THAT(restarting_->why.verdict.sentence(), HasSubstr("the agent on host node-b was lost (it was asked to end with SIGTERM)"));
}

TEST_F(MembershipTest, ANumberIsNeverUsedTwiceOverRestarts) {
  Form();
  EXPECT_EQ(machine_->generation(), 1u);
  Start(Written());  // with the number durable, but nothing announced
  EXPECT_EQ(machine_->incarnation(), 2u);
  Form();
  EXPECT_EQ(appends_.back().entry.generation_taken().generation(), 2u);
}

TEST_F(MembershipTest, ARunningGenerationIsResumed) {
  Run();
  Start(Written());
  Durable();
  EXPECT_EQ(machine_->state(), State::kResuming);
  Join(0, 2, 1);
  Join(1, 1, 1);
  EXPECT_EQ(machine_->state(), State::kRunning);
  EXPECT_EQ(machine_->generation(), 1u);
}

TEST_F(MembershipTest, WhoResumesAGenerationKnowsItsPlanAndWhatNcclWasTold) {
  nccl_ = [](const std::vector<membership::NodeOffer>& offers) {
    membership::NcclDecision decision;
    decision.environments.resize(offers.size());
    decision.reasons = {"a reason"};
    decision.notes = {"a doubt"};
    return decision;
  };
  order_ = [](const std::vector<membership::NodeOffer>& offers, const std::vector<uint32_t>&) {
    membership::NodeOrder order;
    for (const membership::NodeOffer& offer : offers) order.nodes.push_back(offer.node);
    order.plan = "a plan";
    return order;
  };
  RunRestartable(1);
  Start(Written());
  happened_.clear();
  Durable();
  Join(0, 2, 1);
  Join(1, 1, 1);
  ASSERT_EQ(machine_->state(), State::kRunning);
  EXPECT_EQ(machine_->plan(), "a plan");
  EXPECT_EQ(machine_->nccl(), std::vector<std::string>{"a reason"});
  EXPECT_EQ(machine_->nccl_notes(), std::vector<std::string>{"a doubt"});
  FailAndClear();
  Durable();
  RunAgain();
  EXPECT_EQ(std::count(happened_.begin(), happened_.end(), "nccl"), 0) << "what has been said is not said again";
  EXPECT_EQ(std::count(happened_.begin(), happened_.end(), "planned"), 0);
}

TEST_F(MembershipTest, EvidenceThatComesBeforeTheNewStartIsDurableIsKept) {
  Run();
  Start(Written());
  Join(0, 2, 1);
  Ended(0, 0, v1::Ending::EXITED, 0);
  Join(1, 1, 1);
  Ended(1, 2, v1::Ending::SIGNALED, 9);
  EXPECT_EQ(machine_->state(), State::kRecover);
  EXPECT_TRUE(sent_.empty());  // nothing is said by an incarnation that is not on disk
  Durable();
  EXPECT_EQ(machine_->state(), State::kSettling);
  EXPECT_EQ(machine_->evidence().endings.size(), 2u);
}

TEST_F(MembershipTest, AnAgentThatStoppedBeforeItsPrepareIsNamed) {
  Form();
  Durable();
  Stopped(1);
  EXPECT_EQ(machine_->state(), State::kSettling);
  Step(membership::TimerFired{Timer::kEnd});
  Stopped(0);
  Durable();
  EXPECT_THAT(finished_->verdict.sentence(), HasSubstr("the agent on host node-b was lost (it stopped before its workers"));
}

TEST_F(MembershipTest, AMemberThatLostItsWorkersMeanwhileEndsTheJob) {
  Run();
  Start(Written());
  Durable();
  Join(0, 2, 1);
  Join(1, 1, 0);  // started anew
  EXPECT_EQ(machine_->state(), State::kSettling);
  ASSERT_EQ(machine_->evidence().lost_agents.size(), 1u);
  EXPECT_EQ(machine_->evidence().lost_agents[0].host, "node-b");
}

TEST_F(MembershipTest, AMessageOfAnotherGenerationOrJobIsCountedAndDropped) {
  Run();
  v1::AgentMessage message = Message(7);
  message.mutable_worker_ended()->mutable_ending()->set_kind(v1::Ending::SIGNALED);
  Step(membership::Received{0, message});
  message.set_generation(1);
  message.set_job_id(std::string(16, 'x'));
  Step(membership::Received{0, message});
  EXPECT_EQ(machine_->stale_messages(), 2u);
  EXPECT_EQ(machine_->state(), State::kRunning);
}

// Rank 2 is killed on node 1; rank 0 on node 0 blames it and exits. Whatever overtakes what between the nodes, rank 2 is named.
TEST_F(MembershipTest, TheVerdictDoesNotDependOnTheOrderOfArrival) {
  std::vector<int> order = {0, 0, 0, 1, 1};  // whose next message comes
  std::set<std::string> sentences;
  do {
    Start({});
    Run();
    const std::vector<std::function<void()>> of_node[] = {
        {[this] { Blamed(0, 0, 2); }, [this] { Ended(0, 0, v1::Ending::EXITED, 1); },
         [this] { Ended(0, 1, v1::Ending::SIGNALED, 15, true); }},
        {[this] { Blamed(1, 2, v1::kNoRank); }, [this] { Ended(1, 2, v1::Ending::SIGNALED, 9); }}};
    size_t next[2] = {0, 0};
    for (const int node : order) of_node[node][next[node]++]();
    if (machine_->state() == State::kSettling) Step(membership::TimerFired{Timer::kEnd});
    Stopped(0);
    Stopped(1);
    Durable();
    ASSERT_TRUE(finished_);
    sentences.insert(finished_->verdict.sentence());
  } while (std::next_permutation(order.begin(), order.end()));
  EXPECT_THAT(sentences, ::testing::ElementsAre(
                             "rank 2 on host node-b was killed by signal 9 (SIGKILL); 2 other ranks ended because of it"));
}

TEST_F(MembershipTest, AnUnwritableRecordEndsTheJobWith73) {
  Form();
  Step(membership::AppendFailed{appends_.back().sequence, absl::ResourceExhaustedError("write /x: No space left on device")});
  EXPECT_EQ(machine_->state(), State::kQuiescing);
  EXPECT_EQ(CountSent(v1::CoordinatorMessage::kPrepare), 0);
  Stopped(0);
  Stopped(1);
  Step(membership::AppendFailed{appends_.back().sequence, absl::ResourceExhaustedError("write /x: No space left on device")});
  EXPECT_EQ(machine_->state(), State::kFailed);
  EXPECT_EQ(finished_->verdict.exit_code(), 73);
  EXPECT_THAT(finished_->verdict.sentence(), HasSubstr("/x"));
}

// --- Restarts ---

TEST_F(MembershipTest, AFailureRecallsTheGenerationAndFormsTheNext) {
  RunRestartable(2);
  FailAndClear();
  EXPECT_EQ(machine_->state(), State::kClosing);
  EXPECT_EQ(CountSent(v1::CoordinatorMessage::kAbandon), 2);
  EXPECT_EQ(CountSent(v1::CoordinatorMessage::kStop), 0);
  const v1::GenerationEnded& ended = appends_.back().entry.generation_ended();
  EXPECT_EQ(ended.generation(), 1u);
  EXPECT_EQ(ended.restarts(), 1u);
  EXPECT_EQ(ended.restarts_used(), 1u);
  EXPECT_EQ(ended.verdict().exit_code(), 137);
  EXPECT_FALSE(restarting_);  // nothing is said that is not on disk
  Durable();
  ASSERT_TRUE(restarting_);
  EXPECT_EQ(restarting_->next_generation, 2u);
  EXPECT_EQ(restarting_->restarts, 1u);
  EXPECT_EQ(restarting_->why.verdict.rank(), 2);
  EXPECT_EQ(machine_->state(), State::kTaking);  // all nodes are there
  EXPECT_TRUE(machine_->evidence().endings.empty());
  EXPECT_EQ(appends_.back().entry.generation_taken().generation(), 2u);
  Durable();
  EXPECT_EQ(sent_.back().message.prepare().restarts(), 1u);
  EXPECT_EQ(sent_.back().message.prepare().max_restarts(), 2u);
  EXPECT_EQ(machine_->failures().size(), 1u);
  EXPECT_THAT(happened_, ::testing::IsSupersetOf({"failed", "restarting"}));
}

TEST_F(MembershipTest, TheNextGenerationIsNotFormedWhileWorkersOfTheLastMayRun) {
  RunRestartable(2);
  Ended(1, 2, v1::Ending::SIGNALED, 9);
  Step(membership::TimerFired{Timer::kEnd});
  Cleared(1);
  EXPECT_EQ(machine_->state(), State::kRecalling);
  Step(membership::TimerFired{Timer::kEnd});  // node 0 never answers
  EXPECT_EQ(machine_->state(), State::kClosing);
  EXPECT_EQ(sent_.back().node, 0u);
  EXPECT_TRUE(sent_.back().message.has_stop());
  Durable();
  EXPECT_EQ(machine_->state(), State::kForming);  // and is not counted upon
}

TEST_F(MembershipTest, AnEndingOfTheGenerationBeforeIsDropped) {
  RunRestartable(2);
  FailAndClear();
  Durable();
  RunAgain();
  v1::AgentMessage late = Message(1);
  late.mutable_worker_ended()->set_slot(1);
  late.mutable_worker_ended()->mutable_ending()->set_kind(v1::Ending::SIGNALED);
  Step(membership::Received{0, late});
  EXPECT_EQ(machine_->state(), State::kRunning);
  EXPECT_TRUE(machine_->evidence().endings.empty());
  // The same slot and number as before in this generation is news.
  Ended(0, 0, v1::Ending::EXITED, 0);
  EXPECT_EQ(machine_->evidence().endings.size(), 1u);
}

TEST_F(MembershipTest, RestartsThatAreUsedUpEndTheJob) {
  RunRestartable(1);
  FailAndClear();
  Durable();
  RunAgain();
  Ended(1, 2, v1::Ending::EXITED, 3);
  Step(membership::TimerFired{Timer::kEnd});
  EXPECT_EQ(machine_->state(), State::kQuiescing);
  Stopped(0);
  Stopped(1);
  Durable();
  EXPECT_EQ(finished_->verdict.exit_code(), 3);
  EXPECT_THAT(finished_->verdict.sentence(), HasSubstr("restarted 1 time, and --max-restarts 1 allows no more"));
}

TEST_F(MembershipTest, ANewCheckpointGivesTheRestartsBackAndAnOldOneDoesNot) {
  RunRestartable(1);
  Committed(0, 8, 5);
  FailAndClear();
  Durable();
  EXPECT_EQ(machine_->restarts_used(), 1u);
  RunAgain();
  Committed(0, 6, 5);
  EXPECT_EQ(machine_->restarts_used(), 1u);
  EXPECT_EQ(machine_->committed_step(), 8);  // it never goes back
  Committed(0, 12, 10);
  EXPECT_EQ(machine_->restarts_used(), 0u);
  EXPECT_EQ(machine_->checkpoint_step(), 10);
  FailAndClear();
  Durable();
  EXPECT_EQ(machine_->restarts(), 2u);
}

TEST_F(MembershipTest, RestartsAndCheckpointsSurviveTheCoordinator) {
  RunRestartable(3);
  Committed(0, 8, 5);
  FailAndClear();
  Start(Written());
  Durable();
  EXPECT_EQ(machine_->state(), State::kForming);
  EXPECT_EQ(machine_->restarts(), 1u);
  EXPECT_EQ(machine_->restarts_used(), 1u);
  EXPECT_EQ(machine_->checkpoint_step(), 5);
  EXPECT_EQ(machine_->committed_step(), 8);
  Join(0, 2, 1);  // an agent with a generation that is over
  EXPECT_TRUE(sent_.back().message.has_abandon());
  EXPECT_EQ(sent_.back().message.generation(), 1u);
}

TEST_F(MembershipTest, WhatNoRestartCuresEndsTheJob) {
  max_restarts_ = 5;
  Start({});
  Form();
  Durable();
  v1::AgentMessage message = Message(1);
  message.mutable_prepare_failed()->set_slot(2);
  message.mutable_prepare_failed()->mutable_ending()->set_kind(v1::Ending::NOT_FOUND);
  Step(membership::Received{1, message});
  Step(membership::TimerFired{Timer::kEnd});
  EXPECT_EQ(machine_->state(), State::kQuiescing);
}

TEST_F(MembershipTest, AStopWhileRecallingEndsTheJobWithTheFailure) {
  RunRestartable(2);
  Ended(1, 2, v1::Ending::SIGNALED, 9);
  Step(membership::TimerFired{Timer::kEnd});
  Step(membership::StopRequested{StopKind::kInterrupt});
  EXPECT_EQ(machine_->state(), State::kQuiescing);
  Stopped(0);
  Stopped(1);
  Durable();
  EXPECT_EQ(finished_->verdict.exit_code(), 137);
}

TEST_F(MembershipTest, ALostHostIsWaitedForAndThenGoneWithout) {
  RunRestartable(2, 2);
  Step(membership::AgentLost{1, "no answer", true});
  Step(membership::TimerFired{Timer::kEnd});
  Cleared(0);
  EXPECT_EQ(appends_.back().entry.generation_ended().verdict().failure_class(), "host lost");
  Durable();
  EXPECT_EQ(machine_->state(), State::kForming);
  EXPECT_EQ(timers_[Timer::kEnd], absl::Seconds(30));
  Step(membership::TimerFired{Timer::kEnd});
  EXPECT_EQ(machine_->state(), State::kTaking);
  Durable();
  EXPECT_EQ(sent_.back().message.prepare().world_size(), 2u);
}

TEST_F(MembershipTest, NodesThatCannotBeHadAreNotWaitedForWhereFewerWillDo) {
  workers_min_ = 2;
  Start({});
  Durable();
  Join(0, 2);
  EXPECT_EQ(machine_->state(), State::kForming);
  Step(membership::FewerHopedFor{1});
  EXPECT_EQ(machine_->state(), State::kTaking);
}

TEST_F(MembershipTest, NodesThatCannotBeHadAreMissedWhereAllWorkersAreNeeded) {
  Start({});
  Durable();
  Join(0, 2);
  Step(membership::FewerHopedFor{1});
  EXPECT_EQ(machine_->state(), State::kForming);
}

// By rank.
std::vector<uint32_t> NodesOf(const v1::Members& members) {
  std::vector<uint32_t> nodes;
  for (const v1::Place& place : members.places()) nodes.push_back(place.node());
  return nodes;
}

TEST_F(MembershipTest, ASpareWaitsAndTakesTheLostNodesPlaceAfterItsTime) {
  nodes_ = 2;
  max_restarts_ = 2;
  Start({});
  Durable();
  Join(2, 4);
  Join(1, 1);
  EXPECT_EQ(machine_->state(), State::kForming) << "slots suffice, but not those of the first nodes";
  EXPECT_FALSE(timers_.contains(Timer::kSpares));
  Join(0, 2);
  EXPECT_EQ(machine_->state(), State::kTaking);
  Durable();
  EXPECT_THAT(NodesOf(machine_->members()), ::testing::ElementsAre(0, 0, 1));
  Ready(0);
  Ready(1);
  Durable();
  EXPECT_EQ(machine_->state(), State::kRunning);
  EXPECT_STREQ(machine_->agents()[2].state, "spare");
  Step(membership::AgentLost{0, "no answer", true});
  Step(membership::TimerFired{Timer::kEnd});
  Cleared(1);
  Durable();
  EXPECT_EQ(machine_->state(), State::kForming) << "the node before is waited for first";
  EXPECT_EQ(timers_[Timer::kSpares], absl::Seconds(1));
  Step(membership::TimerFired{Timer::kSpares});
  EXPECT_EQ(machine_->state(), State::kTaking);
  Durable();
  EXPECT_THAT(NodesOf(machine_->members()), ::testing::ElementsAre(2, 2, 1)) << "rank 2 stays where it was";
}

TEST_F(MembershipTest, ANodeThatComesBackInTimeNeedsNoSpare) {
  nodes_ = 2;
  max_restarts_ = 2;
  Start({});
  Durable();
  Join(0, 2);
  Join(2, 4);
  Join(1, 1);
  Durable();
  Ready(0);
  Ready(1);
  Durable();
  Step(membership::AgentLost{0, "killed"});
  Step(membership::TimerFired{Timer::kEnd});
  Cleared(1);
  Durable();
  Join(0, 2);
  EXPECT_EQ(machine_->state(), State::kTaking);
  Step(membership::TimerFired{Timer::kSpares});  // late: ignored
  Durable();
  EXPECT_THAT(NodesOf(machine_->members()), ::testing::ElementsAre(0, 0, 1));
}

TEST_F(MembershipTest, ANodeThatIsGivenUpIsReplacedByASpareAtOnce) {
  nodes_ = 2;
  Start({});
  Durable();
  Join(0, 2);
  Join(2, 4);
  EXPECT_EQ(machine_->state(), State::kForming);
  Step(membership::FewerHopedFor{0, 1});
  EXPECT_EQ(machine_->state(), State::kTaking);
  Durable();
  EXPECT_THAT(NodesOf(machine_->members()), ::testing::ElementsAre(0, 0, 2));
}

TEST_F(MembershipTest, ASpareMayStandInForARestartedCoordinatorsMembersToo) {
  nodes_ = 2;
  max_restarts_ = 2;
  Start({});
  Durable();
  Join(0, 2);
  Join(1, 1);
  Join(2, 2);
  Durable();
  Ready(0);
  Ready(1);
  Durable();
  Step(membership::AgentLost{0, "no answer", true});
  Step(membership::TimerFired{Timer::kEnd});
  Cleared(1);
  Durable();
  ASSERT_EQ(machine_->state(), State::kForming);
  Start(Written());
  Durable();
  Join(1, 1, 1);
  Join(2, 2);
  EXPECT_EQ(machine_->state(), State::kForming);
  Step(membership::TimerFired{Timer::kSpares});
  EXPECT_EQ(machine_->state(), State::kTaking);
  Durable();
  EXPECT_THAT(NodesOf(machine_->members()), ::testing::ElementsAre(2, 2, 1));
}

TEST_F(MembershipTest, TooFewNodesAfterTheLastCallAreNamed) {
  RunRestartable(2);
  Step(membership::AgentLost{1, "no answer", true});
  Step(membership::TimerFired{Timer::kEnd});
  Cleared(0);
  Durable();
  Step(membership::TimerFired{Timer::kEnd});
  Stopped(0);
  Durable();
  EXPECT_EQ(finished_->verdict.exit_code(), 69);
  EXPECT_THAT(finished_->verdict.sentence(), HasSubstr("these hosts are missing: node-b (no answer)"));
}

TEST_F(MembershipTest, ANodeThatComesBackTakesItsPlaceAgain) {
  RunRestartable(2);
  Step(membership::AgentLost{1, "killed"});
  Join(1, 1);  // before the others have ended
  Step(membership::TimerFired{Timer::kEnd});
  EXPECT_EQ(machine_->state(), State::kRecalling);
  Cleared(0);
  Durable();
  EXPECT_EQ(machine_->state(), State::kTaking);
  Durable();
  EXPECT_EQ(machine_->members().nodes_size(), 2);
}

TEST_F(MembershipTest, PlacesAreSpreadAsEvenlyAsSlotsAllow) {
  Durable();
  Join(0, 1);
  Join(1, 4);
  EXPECT_EQ(machine_->state(), State::kTaking);
  Durable();
  std::vector<uint32_t> nodes;
  for (const v1::Place& place : machine_->members().places()) nodes.push_back(place.node());
  EXPECT_THAT(nodes, ::testing::ElementsAre(0, 1, 1));
}

TEST_F(MembershipTest, GoNamesATableWithPortsAndSpawns) {
  Run();
  v1::AgentMessage request = Message(1);
  request.mutable_members_request();
  Step(membership::Received{1, request});
  const v1::Members& members = sent_.back().message.members();
  EXPECT_EQ(members.places(2).data_port(), 40002u);
  EXPECT_EQ(members.places(2).spawn(), 1u);
  const auto go = std::find_if(sent_.begin(), sent_.end(), [](const auto& send) { return send.message.has_go(); });
  EXPECT_EQ(go->message.go().members_sha256().size(), 32u);
}

TEST_F(MembershipTest, ASilentAgentIsGivenUpUnlessStepsAreCommitted) {
  RunRestartable(2);
  Step(membership::AgentSilent{1, absl::Seconds(9)});
  EXPECT_EQ(machine_->state(), State::kRunning);
  Committed(0, 3, 0);
  Step(membership::AgentSilent{1, absl::Seconds(11)});  // it took part in that step
  Step(membership::AgentSilent{1, absl::Seconds(20)});
  EXPECT_EQ(machine_->state(), State::kRunning);
  Step(membership::AgentSilent{1, absl::Seconds(22)});
  EXPECT_EQ(machine_->state(), State::kSettling);
  ASSERT_EQ(machine_->evidence().lost_agents.size(), 1u);
  EXPECT_TRUE(machine_->evidence().lost_agents[0].whole_node);
  EXPECT_TRUE(sent_.back().message.has_abandon());  // should it be heard again
}

TEST_F(MembershipTest, AnAgentWhoseWorkersHaveEndedTakesNothingWithIt) {
  Run();
  Ended(1, 2, v1::Ending::EXITED, 0);
  Step(membership::AgentLost{1, "killed"});
  EXPECT_EQ(machine_->state(), State::kRunning);
  Ended(0, 0, v1::Ending::EXITED, 0);
  Ended(0, 1, v1::Ending::EXITED, 0);
  Stopped(0);
  Durable();
  EXPECT_EQ(finished_->verdict.exit_code(), 0);
}

TEST_F(MembershipTest, RefusalsAreCountedAndNamed) {
  Run();
  v1::AgentMessage message = Message(1);
  message.mutable_refusal()->set_what("a wrong key");
  message.mutable_refusal()->set_count(3);
  Step(membership::Received{1, message});
  EXPECT_EQ(machine_->refusals().total(), 3u);
  EXPECT_EQ(happened_.back(), "refused");
  const size_t told = happened_.size();
  Step(membership::Received{1, message});  // the same again: counted, and not told of until it is ten
  EXPECT_EQ(machine_->refusals().total(), 6u);
  EXPECT_EQ(happened_.size(), told);
  Step(membership::TurnedAway{"plain text", "10.0.0.9:5000"});
  EXPECT_EQ(happened_.size(), told + 1);
  ASSERT_EQ(machine_->refusals().entries().size(), 2u);
  EXPECT_EQ(Sentence(machine_->refusals().entries()[1]), "the coordinator turned away plain text from 10.0.0.9:5000");
}

TEST(RefusalLedger, CountsAllAndTellsLittle) {
  RefusalLedger ledger;
  const absl::Time now = absl::FromUnixSeconds(1'700'000'000);
  int told = 0;
  for (int i = 0; i < 100'000; ++i) told += ledger.Note("the coordinator", "plain text", "10.0.0.9:1", 1, now).empty() ? 0 : 1;
  EXPECT_EQ(told, 6);  // 1, 10, ... 100,000
  for (int i = 0; i < 100'000; ++i) {
    told += ledger.Note("host b", absl::StrCat("rank ", i, " of another job"), "10.0.0.9:1", 1, now).empty() ? 0 : 1;
  }
  EXPECT_LE(told, 6 + 64 + 6);
  EXPECT_EQ(ledger.total(), 200'000u);
  ASSERT_EQ(ledger.entries().size(), RefusalLedger::kKindsMax);
  uint64_t sum = 0;
  for (const RefusalLedger::Entry& entry : ledger.entries()) sum += entry.count;
  EXPECT_EQ(sum, ledger.total());
  EXPECT_EQ(ledger.entries().back().what, RefusalLedger::kOtherKinds);
  ledger.Note("host b", "rank 7 of another job", "10.0.0.8:2", 5, now + absl::Seconds(1));  // a kind that is known stays itself
  EXPECT_EQ(ledger.entries()[8].count, 6u);
  EXPECT_EQ(Sentence(ledger.entries()[8]), "host b turned away rank 7 of another job, 6 times, last from 10.0.0.8:2");
}

TEST_F(MembershipTest, WhatCannotBeWrittenTwiceAtOneStepIsNotTriedAThirdTime) {
  RunRestartable(10);
  Committed(0, 40, 0);
  const auto fail = [this] {
    Ended(0, 0, v1::Ending::EXITED, 73);
    Ended(0, 1, v1::Ending::EXITED, 73);
    Ended(1, 2, v1::Ending::EXITED, 73);
  };
  fail();
  ASSERT_EQ(machine_->state(), State::kRecalling);
  Cleared(0);
  Cleared(1);
  Durable();
  RunAgain();
  Committed(0, 41, 0);  // it got further
  fail();
  ASSERT_EQ(machine_->state(), State::kRecalling);
  Cleared(0);
  Cleared(1);
  Durable();
  RunAgain();
  fail();
  EXPECT_EQ(machine_->state(), State::kQuiescing);
  Stopped(0);
  Stopped(1);
  Durable();
  ASSERT_TRUE(finished_.has_value());
  EXPECT_EQ(finished_->verdict.exit_code(), 73);
  EXPECT_THAT(finished_->verdict.sentence(), HasSubstr("could not write at the same step the last time either"));
}

// --- Several programs ---

TEST_F(MembershipTest, EachRankOfSeveralProgramsIsToldItsOwn) {
  applications_ = {{1, "/opt/serve"}, {2, "train"}};
  Start({});
  Run();
  std::vector<uint32_t> applications;
  for (const v1::Place& place : machine_->members().places()) applications.push_back(place.application());
  EXPECT_EQ(applications, (std::vector<uint32_t>{0, 1, 1}));
  EXPECT_EQ(machine_->program_of(machine_->members().places(0)), "serve");
  for (const auto& send : sent_) {
    if (!send.message.has_prepare()) continue;
    for (const v1::Place& place : send.message.prepare().places()) EXPECT_EQ(place.application(), place.rank() == 0 ? 0u : 1u);
  }
  Ended(1, 2, v1::Ending::EXITED, 3);
  Step(membership::TimerFired{Timer::kEnd});
  Stopped(0);
  Stopped(1);
  Durable();
  ASSERT_TRUE(finished_.has_value());
  EXPECT_THAT(finished_->verdict.sentence(), HasSubstr("rank 2 (train) on host node-b exited with code 3"));
  EXPECT_EQ(finished_->verdict.program(), "train");
}

TEST_F(MembershipTest, SeveralProgramsDoNotGoOnWithFewerWorkers) {
  applications_ = {{1, "train"}, {2, "train"}};
  RunRestartable(3, 1);
  EXPECT_EQ(machine_->program_of(machine_->members().places(2)), "train #2");
  FailAndClear();
  Durable();  // the generation's end
  Step(membership::AgentLost{1, "gone"});
  Step(membership::TimerFired{Timer::kEnd});  // the last call
  EXPECT_EQ(machine_->state(), State::kQuiescing);
}

}  // namespace
}  // namespace muster
