#include "muster/session.h"

#include <vector>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "muster/muster.h"
#include "runtime/base/sealed_memory.h"
#include "runtime/session/window_inbox.h"
#include "tests/support/local_agent.h"

namespace muster {
namespace {

using testing::kTestPatience;
using testing::LocalAgent;

SessionOptions OptionsFor(const LocalAgent& agent, int32_t slot) {
  return {.socket = agent.socket(), .job_id = agent.job_id_hex(), .slot = slot, .join_timeout = kTestPatience};
}

TEST(Session, AloneItIsAWorldOfOneAndSaysSo) {
  ::testing::internal::CaptureStderr();
  auto session = Session::Create(SessionOptions());
  const std::string said = ::testing::internal::GetCapturedStderr();
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_TRUE(absl::StrContains(said, "runs alone, rank 0 of 1")) << said;
  EXPECT_EQ((*session)->world_size(), 1);
  float value = 3;
  EXPECT_TRUE((*session)->world().AllReduce(MakeTensor(&value, 1), ReduceOp::kAvg).ok());
  EXPECT_EQ(value, 3);
  auto window = (*session)->world().CreateWindow(4096);
  EXPECT_TRUE(window.ok()) << window.status();
  EXPECT_EQ(Session::Create(SessionOptions()).status().code(), absl::StatusCode::kAlreadyExists);
  window->reset();
  session->reset();
  EXPECT_TRUE(Session::Create(SessionOptions()).ok()) << "after the first one is closed";
}

TEST(Session, HasItsPlace) {
  LocalAgent agent;
  agent.Expect(0, ::getpid());
  agent.Begin(1, 9);
  auto session = Session::Create(OptionsFor(agent, 0));
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_EQ((*session)->rank(), 0);
  EXPECT_EQ((*session)->world_size(), 1);
  EXPECT_EQ((*session)->local_world_size(), 1);
  EXPECT_EQ((*session)->generation(), 9u);
  EXPECT_EQ((*session)->restarts(), 0);
  EXPECT_EQ((*session)->job_id(), agent.job_id_hex());
  EXPECT_TRUE((*session)->world().Barrier().ok());
  (*session)->ReportStep(17);
  EXPECT_EQ(agent.Await(LocalAgent::Event::kStep, 0).step, 17);
  session->reset();
  agent.Await(LocalAgent::Event::kLeft, 0);
}

TEST(Session, SecondInTheSlotIsRefused) {
  LocalAgent agent;
  agent.Expect(0, ::getpid());
  agent.Begin(1);
  { ASSERT_TRUE(Session::Create(OptionsFor(agent, 0)).ok()); }
  const absl::Status second = Session::Create(OptionsFor(agent, 0)).status();
  EXPECT_EQ(second.code(), absl::StatusCode::kAlreadyExists) << second;
  EXPECT_TRUE(absl::StrContains(second.message(), "slot 0")) << second;
}

TEST(Session, JoinTimesOut) {
  LocalAgent agent;
  agent.Expect(0, ::getpid());
  SessionOptions options = OptionsFor(agent, 0);
  options.join_timeout = absl::Milliseconds(30);
  const absl::Status late = Session::Create(options).status();
  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded) << late;
  agent.Await(LocalAgent::Event::kLeft, 0);  // no death
}

TEST(Session, NoAgentAndAnEndedJob) {
  SessionOptions options{.socket = "muster-nobody", .job_id = std::string(32, '0')};
  EXPECT_EQ(Session::Create(options).status().code(), absl::StatusCode::kUnavailable);
  LocalAgent agent;
  agent.Expect(0, ::getpid());
  agent.Do([](WorkerPort& port) { port.EndGeneration("rank 3 (node-b): killed by SIGKILL"); });
  const absl::Status ended = Session::Create(OptionsFor(agent, 0)).status();
  EXPECT_EQ(ended.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(absl::StrContains(ended.message(), "rank 3 (node-b): killed by SIGKILL")) << ended;
}

TEST(Session, EndOfTheGenerationBreaksCalls) {
  LocalAgent agent;
  agent.Expect(0, ::getpid());
  agent.Begin(2);  // rank 1 never comes
  auto session = Session::Create(OptionsFor(agent, 0));
  ASSERT_TRUE(session.ok()) << session.status();
  auto work = (*session)->world().StartBarrier();
  ASSERT_TRUE(work.ok());
  agent.Do([](WorkerPort& port) { port.EndGeneration("over"); });
  EXPECT_EQ((*work)->Wait().code(), absl::StatusCode::kAborted);
}

class Inbox : public ::testing::Test {
 protected:
  static constexpr uint64_t kWorld = 0;
  Inbox() { inbox_.Open(kWorld); }

  auto Collect(uint32_t window, absl::Time deadline) { return inbox_.Collect(kWorld, window, others_, control_, deadline); }

  v1::ControlHeader control_ = {};
  const std::vector<uint32_t> others_ = {0, 2};  // of local rank 1
  WindowInbox inbox_;
};

TEST_F(Inbox, CollectsWhatComesInAnyOrder) {
  std::thread peer([this] {
    inbox_.Put(kWorld, 8, 0, MakeSealedMemory("muster-inbox", 4096).value());  // a window later
    inbox_.Put(kWorld, 7, 2, MakeSealedMemory("muster-inbox", 4096).value());
    inbox_.Put(kWorld, 7, 0, MakeSealedMemory("muster-inbox", 4096).value());
  });
  auto window = Collect(7, absl::Now() + kTestPatience);
  peer.join();
  ASSERT_TRUE(window.ok()) << window.status();
  ASSERT_EQ(window->size(), 2u);
  EXPECT_TRUE((*window)[0].valid());
  EXPECT_TRUE((*window)[1].valid());
}

TEST_F(Inbox, KeepsNothingOfAWindowThatIsOver) {
  const int before = testing::CountDescriptors("memfd:muster-inbox");
  inbox_.Put(kWorld, 7, 0, MakeSealedMemory("muster-inbox", 4096).value());
  inbox_.Forget(kWorld, 7);  // this rank could not make its own
  inbox_.Put(kWorld, 7, 2, MakeSealedMemory("muster-inbox", 4096).value());
  EXPECT_EQ(testing::CountDescriptors("memfd:muster-inbox"), before);
  inbox_.Put(kWorld, 8, 0, MakeSealedMemory("muster-inbox", 4096).value());
  inbox_.Put(kWorld, 8, 2, MakeSealedMemory("muster-inbox", 4096).value());
  EXPECT_TRUE(Collect(8, absl::Now() + kTestPatience).ok());
}

TEST_F(Inbox, CommunicatorsHaveWindowsOfTheirOwnWhileTheyAreOpen) {
  const int before = testing::CountDescriptors("memfd:muster-inbox");
  inbox_.Put(99, 0, 0, MakeSealedMemory("muster-inbox", 4096).value());  // nobody has opened it
  EXPECT_EQ(testing::CountDescriptors("memfd:muster-inbox"), before);
  inbox_.Open(99);
  inbox_.Put(99, 0, 2, MakeSealedMemory("muster-inbox", 4096).value());
  EXPECT_EQ(Collect(0, absl::Now() + absl::Milliseconds(5)).status().code(), absl::StatusCode::kDeadlineExceeded);
  const std::vector<uint32_t> from = {2};
  EXPECT_TRUE(inbox_.Collect(99, 0, from, control_, absl::Now() + kTestPatience).ok());
  inbox_.Put(99, 1, 2, MakeSealedMemory("muster-inbox", 4096).value());
  inbox_.Close(99);
  EXPECT_EQ(testing::CountDescriptors("memfd:muster-inbox"), before);
}

TEST_F(Inbox, EndsByDeadlineAbortWordAndFailure) {
  inbox_.Put(kWorld, 1, 0, MakeSealedMemory("muster-inbox", 4096).value());
  const absl::Status late = Collect(1, absl::Now() + absl::Milliseconds(20)).status();
  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(absl::StrContains(late.message(), "local rank 2")) << late;
  std::thread agent([this] { control_.abort_word = v1::PackAbort(v1::AbortReason::kPeerLost, 2, 0); });
  const absl::Status lost = Collect(1, absl::Now() + kTestPatience).status();
  agent.join();
  EXPECT_EQ(lost.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(absl::StrContains(lost.message(), "rank 2 was lost")) << lost;
  inbox_.Fail(absl::AbortedError("told so"));
  EXPECT_EQ(Collect(1, absl::InfiniteFuture()).status(), absl::AbortedError("told so"));
}

}  // namespace
}  // namespace muster
