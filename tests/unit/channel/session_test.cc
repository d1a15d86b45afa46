// Sessions over streams that live and break, on real sockets of this machine.
#include <cstdlib>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/channel_parties.h"
#include "tests/support/tcp_relay.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<uint64_t> UpTo(uint64_t last) {
  std::vector<uint64_t> numbers(last);
  std::iota(numbers.begin(), numbers.end(), 1);
  return numbers;
}

std::vector<uint64_t> NumbersOf(const std::vector<std::pair<uint32_t, uint64_t>>& messages) {
  std::vector<uint64_t> numbers;
  for (const auto& [node, number] : messages) numbers.push_back(number);
  return numbers;
}

class ChannelSession : public ::testing::Test {
 protected:
  bool Await(const std::function<bool()>& condition) { return test::Await(loop_.get(), condition); }
  JoinTicket Ticket(uint32_t node) { return authority_->MakeTicket(node, absl::Minutes(10)); }
  void StartRelay() { relay_.emplace(loop_.get(), coordinator_.server->port()); }

  std::unique_ptr<EventLoop> loop_ = EventLoop::Create().value();
  std::unique_ptr<Authority> authority_ = Authority::Create(test::kTestJob).value();
  test::TestCoordinator coordinator_{loop_.get()};
  std::optional<test::TcpRelay> relay_;
  test::TestAgent agent_{loop_.get()};
};

TEST_F(ChannelSession, AnAgentJoinsSpeaksAndLeaves) {
  coordinator_.Start(authority_.get());
  coordinator_.echo = true;
  agent_.Start(coordinator_.address(), Ticket(3));
  ASSERT_TRUE(Await([&] { return agent_.ups == 1; }));
  agent_.Send(11);
  agent_.Send(12);
  ASSERT_TRUE(Await([&] { return agent_.got.size() == 2; }));
  EXPECT_THAT(coordinator_.got, ElementsAre(std::pair(3u, 11u), std::pair(3u, 12u)));
  EXPECT_THAT(agent_.got, ElementsAre(11u, 12u));
  EXPECT_LT(coordinator_.server->SilentFor(3), test::kChannelPatience);
  bool done = false;
  agent_.client->Close(test::kChannelPatience, [&] { done = true; });
  ASSERT_TRUE(Await([&] { return done && !coordinator_.lost.empty(); }));
  EXPECT_THAT(coordinator_.lost, ElementsAre("3: its agent has closed the session"));
  EXPECT_THAT(coordinator_.refused, IsEmpty());
  EXPECT_EQ(agent_.downs, 0);
  EXPECT_EQ(coordinator_.server->SilentFor(3), absl::InfiniteDuration());
}

TEST_F(ChannelSession, TenThousandMessagesEachWayKeepTheirOrder) {
  constexpr uint64_t kMessages = 10000;
  coordinator_.Start(authority_.get());
  agent_.Start(coordinator_.address(), Ticket(0));
  ASSERT_TRUE(Await([&] { return agent_.ups == 1; }));
  for (uint64_t number = 1; number <= kMessages; ++number) {
    agent_.Send(number);
    coordinator_.Send(0, number);
  }
  bool flushed = false;
  coordinator_.server->Flush(test::kChannelPatience, [&] { flushed = true; });
  ASSERT_TRUE(
      Await([&] { return flushed && coordinator_.got.size() == kMessages && agent_.client->unacknowledged_bytes() == 0; }));
  EXPECT_EQ(agent_.got, UpTo(kMessages));
  EXPECT_EQ(NumbersOf(coordinator_.got), UpTo(kMessages));
}

TEST_F(ChannelSession, ManyAgentsAtOnceAreToldApart) {
  constexpr uint32_t kAgents = 20;
  coordinator_.Start(authority_.get());
  coordinator_.echo = true;
  std::vector<std::unique_ptr<test::TestAgent>> agents;
  for (uint32_t node = 0; node < kAgents; ++node) {
    agents.push_back(std::make_unique<test::TestAgent>(loop_.get()));
    agents.back()->Start(coordinator_.address(), Ticket(node));
  }
  ASSERT_TRUE(Await([&] {
    for (const auto& agent : agents) {
      if (agent->ups == 0) return false;
    }
    return true;
  }));
  for (uint32_t node = 0; node < kAgents; ++node) agents[node]->Send(100 + node);
  ASSERT_TRUE(Await([&] {
    for (const auto& agent : agents) {
      if (agent->got.empty()) return false;
    }
    return true;
  }));
  for (uint32_t node = 0; node < kAgents; ++node) EXPECT_THAT(agents[node]->got, ElementsAre(100 + node));
  for (const auto& [node, number] : coordinator_.got) EXPECT_EQ(number, 100 + node);
}

TEST_F(ChannelSession, AStreamThatBreaksIsTakenUpAgain) {
  coordinator_.Start(authority_.get());
  StartRelay();
  agent_.Start(relay_->address(), Ticket(1));
  ASSERT_TRUE(Await([&] { return agent_.ups == 1; }));
  agent_.Send(1);
  ASSERT_TRUE(Await([&] { return coordinator_.got.size() == 1; }));
  relay_->Unplug(true);
  relay_->CutAll();
  ASSERT_TRUE(Await([&] { return agent_.downs == 1; }));
  agent_.Send(2);  // while there is no stream
  coordinator_.Send(1, 7);
  EXPECT_GT(agent_.client->unacknowledged_bytes(), 0u);
  relay_->Unplug(false);
  ASSERT_TRUE(Await([&] { return agent_.resumes == 1 && coordinator_.got.size() == 2 && agent_.got.size() == 1; }));
  EXPECT_EQ(NumbersOf(coordinator_.got), UpTo(2));
  EXPECT_THAT(coordinator_.lost, IsEmpty());
  EXPECT_EQ(agent_.ups, 1);
  ASSERT_TRUE(Await([&] { return agent_.client->unacknowledged_bytes() == 0; }));
  ASSERT_THAT(agent_.said, ::testing::SizeIs(2));
  EXPECT_THAT(agent_.said[0], HasSubstr("broke"));
  EXPECT_THAT(agent_.said[1], HasSubstr("connected to the coordinator"));
}

TEST_F(ChannelSession, AStreamThatHangsIsReplaced) {
  coordinator_.Start(authority_.get());
  StartRelay();
  agent_.Start(relay_->address(), Ticket(1), {.silence_max = absl::Milliseconds(200)});
  ASSERT_TRUE(Await([&] { return agent_.ups == 1; }));
  agent_.Send(1);
  ASSERT_TRUE(Await([&] { return agent_.client->unacknowledged_bytes() == 0; }));
  relay_->FreezeAll();  // the coordinator's end stays open and says nothing
  agent_.Send(2);
  coordinator_.Send(1, 7);
  ASSERT_TRUE(Await([&] { return agent_.resumes >= 1 && coordinator_.got.size() == 2 && agent_.got.size() == 1; }));
  EXPECT_EQ(NumbersOf(coordinator_.got), UpTo(2));
  EXPECT_THAT(coordinator_.lost, IsEmpty());
}

TEST_F(ChannelSession, AnAgentThatStaysAwayIsLostAndBeginsAnewWhenItComes) {
  coordinator_.Start(authority_.get(), {.resume_within = absl::Milliseconds(100)});
  StartRelay();
  agent_.Start(relay_->address(), Ticket(1));
  ASSERT_TRUE(Await([&] { return agent_.ups == 1; }));
  relay_->Unplug(true);
  relay_->CutAll();
  ASSERT_TRUE(Await([&] { return coordinator_.lost.size() == 1; }));
  EXPECT_THAT(coordinator_.lost[0], HasSubstr("1: its stream broke and it did not come back within 100ms"));
  agent_.Send(1);  // of the session that is over: nobody's any more
  relay_->Unplug(false);
  ASSERT_TRUE(Await([&] { return agent_.ups == 2; }));
  agent_.Send(2);
  ASSERT_TRUE(Await([&] { return !coordinator_.got.empty(); }));
  EXPECT_THAT(coordinator_.got, ElementsAre(std::pair(1u, 2u)));
  EXPECT_EQ(agent_.resumes, 0);
}

TEST_F(ChannelSession, AnAgentThatIsStartedAgainReplacesTheOldOne) {
  coordinator_.Start(authority_.get());
  agent_.Start(coordinator_.address(), Ticket(2));
  ASSERT_TRUE(Await([&] { return agent_.ups == 1; }));
  agent_.Send(1);
  ASSERT_TRUE(Await([&] { return coordinator_.got.size() == 1; }));
  test::TestAgent again(loop_.get());
  again.Start(coordinator_.address(), Ticket(2));
  ASSERT_TRUE(Await([&] { return again.ups == 1 && !agent_.refused.ok(); }));
  EXPECT_THAT(coordinator_.lost, ElementsAre("2: its agent was started again"));
  EXPECT_THAT(std::string(agent_.refused.message()), HasSubstr("an agent that was started again"));
  again.Send(2);
  ASSERT_TRUE(Await([&] { return coordinator_.got.size() == 2; }));
  EXPECT_EQ(NumbersOf(coordinator_.got), UpTo(2));
}

TEST_F(ChannelSession, ACoordinatorThatIsStartedAgainGetsANewSession) {
  coordinator_.Start(authority_.get());
  agent_.Start(coordinator_.address(), Ticket(2));
  ASSERT_TRUE(Await([&] { return agent_.ups == 1; }));
  const uint16_t port = coordinator_.server->port();
  coordinator_.server.reset();
  ASSERT_TRUE(Await([&] { return agent_.downs == 1; }));
  coordinator_.Start(authority_.get(), {.port = port});
  ASSERT_TRUE(Await([&] { return agent_.ups == 2; }));
  agent_.Send(5);
  ASSERT_TRUE(Await([&] { return !coordinator_.got.empty(); }));
  EXPECT_THAT(coordinator_.got, ElementsAre(std::pair(2u, 5u)));
}

TEST_F(ChannelSession, ADroppedAgentIsRefusedUntilItEnrolsAgain) {
  coordinator_.Start(authority_.get());
  agent_.Start(coordinator_.address(), Ticket(2));
  ASSERT_TRUE(Await([&] { return agent_.ups == 1; }));
  coordinator_.server->Drop(2);
  ASSERT_TRUE(Await([&] { return !agent_.refused.ok(); }));
  EXPECT_THAT(std::string(agent_.refused.message()), HasSubstr("given this agent up"));
  EXPECT_THAT(coordinator_.lost, IsEmpty());
  test::TestAgent again(loop_.get());
  again.Start(coordinator_.address(), Ticket(2));
  ASSERT_TRUE(Await([&] { return again.ups == 1; }));
  EXPECT_THAT(coordinator_.lost, IsEmpty());
}

TEST_F(ChannelSession, AnAgentThatTakesNothingIsLostAtTheBound) {
  constexpr size_t kBound = 1 << 20;
  coordinator_.Start(authority_.get(), {.unacknowledged_bytes_max = kBound});
  StartRelay();
  agent_.Start(relay_->address(), Ticket(2));
  ASSERT_TRUE(Await([&] { return agent_.ups == 1; }));
  relay_->Unplug(true);
  relay_->FreezeAll();
  int sent = 0;
  for (; sent < 200; ++sent) coordinator_.Send(2, sent, 16 << 10);  // more than three times the bound
  EXPECT_THAT(coordinator_.lost, IsEmpty()) << "called back from inside a call";
  ASSERT_TRUE(Await([&] { return !coordinator_.lost.empty(); }));
  EXPECT_THAT(coordinator_.lost, ElementsAre(HasSubstr("has not acknowledged")));
  EXPECT_THAT(coordinator_.lost[0], HasSubstr(absl::StrCat(" ", (kBound / (16 << 10)) * (16 << 10)).substr(0, 4)));
}

TEST_F(ChannelSession, ACoordinatorThatTakesNothingCostsTheSessionAtTheBound) {
  constexpr size_t kBound = 1 << 20;
  coordinator_.Start(authority_.get());
  StartRelay();
  agent_.Start(relay_->address(), Ticket(2), {.unacknowledged_bytes_max = kBound});
  ASSERT_TRUE(Await([&] { return agent_.ups == 1; }));
  relay_->FreezeAll();
  size_t most = 0;
  for (int sent = 0; sent < 200; ++sent) {
    agent_.Send(sent, 16 << 10);
    most = std::max(most, agent_.client->unacknowledged_bytes());
  }
  EXPECT_LE(most, kBound + (17 << 10));
  EXPECT_EQ(agent_.client->unacknowledged_bytes(), 0u);
  ASSERT_TRUE(Await([&] { return agent_.ups == 2; }));
  EXPECT_THAT(coordinator_.lost, ElementsAre("2: its agent began a new session"));
  EXPECT_THAT(coordinator_.got, IsEmpty());
}

TEST_F(ChannelSession, AMessageThatIsTooLongCostsTheSessionAndNothingElse) {
  coordinator_.Start(authority_.get());
  agent_.Start(coordinator_.address(), Ticket(2));
  ASSERT_TRUE(Await([&] { return agent_.ups == 1; }));
  agent_.Send(1, 4 << 20);
  ASSERT_TRUE(Await([&] { return agent_.ups == 2; }));
  EXPECT_THAT(coordinator_.got, IsEmpty());
  agent_.Send(2, (4 << 20) - 100);
  ASSERT_TRUE(Await([&] { return coordinator_.got.size() == 1; }));
}

TEST_F(ChannelSession, AnythingMayBeDestroyedAtAnyTime) {
  // Between each two steps of joining, the one or the other goes away. Nothing may hang, leak or be called afterwards.
  for (int steps = 0; steps < 40; ++steps) {
    const bool server_first = steps % 2 == 0;
    test::TestCoordinator coordinator(loop_.get());
    coordinator.Start(authority_.get());
    test::TestAgent agent(loop_.get());
    agent.Start(coordinator.address(), Ticket(2));
    int left = steps;
    ASSERT_TRUE(Await([&] { return left-- == 0; }));
    if (server_first) coordinator.server.reset();
    agent.client.reset();
    coordinator.server.reset();
    const int ups = agent.ups;
    int more = 3;
    ASSERT_TRUE(Await([&] { return more-- == 0; }));
    EXPECT_EQ(agent.ups, ups);
  }
}

TEST_F(ChannelSession, AClientMayGoWhileNobodyAnswers) {
  coordinator_.Start(authority_.get());
  StartRelay();
  agent_.Start(relay_->address(), Ticket(2));
  ASSERT_TRUE(Await([&] { return relay_->connections() > 0; }));
  relay_->FreezeAll();
  agent_.client.reset();
}

TEST_F(ChannelSession, AServerThatCannotBeReachedIsTriedAgain) {
  coordinator_.Start(authority_.get());
  const uint16_t port = coordinator_.server->port();
  const JoinTicket ticket = Ticket(4);
  coordinator_.server.reset();
  agent_.Start(absl::StrCat("127.0.0.1:", port), ticket);
  ASSERT_TRUE(Await([&] { return !agent_.said.empty(); }));
  EXPECT_THAT(agent_.said[0], HasSubstr(absl::StrCat("cannot reach the coordinator at 127.0.0.1:", port, " yet")));
  coordinator_.Start(authority_.get(), {.port = port});
  ASSERT_TRUE(Await([&] { return agent_.ups == 1; }));
  EXPECT_TRUE(agent_.refused.ok());
}

TEST_F(ChannelSession, ClosingEndsInTimeThoughNobodyAcknowledges) {
  coordinator_.Start(authority_.get());
  StartRelay();
  agent_.Start(relay_->address(), Ticket(2));
  ASSERT_TRUE(Await([&] { return agent_.ups == 1; }));
  relay_->Unplug(true);
  relay_->CutAll();
  ASSERT_TRUE(Await([&] { return agent_.downs == 1; }));
  agent_.Send(1);
  bool done = false;
  agent_.client->Close(absl::Milliseconds(50), [&] { done = true; });
  ASSERT_TRUE(Await([&] { return done; }));
  bool flushed = false;
  coordinator_.Send(2, 1);
  coordinator_.server->Flush(absl::Milliseconds(50), [&] { flushed = true; });
  ASSERT_TRUE(Await([&] { return flushed; }));
}

TEST(AgentClientAddress, IsCheckedAtOnce) {
  auto loop = EventLoop::Create().value();
  for (const char* wrong : {"", "host", ":1", "host:", "host:0", "host:70000", "::1:42", "[::1:42"}) {
    EXPECT_EQ(AgentClient::Create(loop.get(), {.coordinator = wrong}, {}).status().code(), absl::StatusCode::kInvalidArgument)
        << wrong;
  }
}

// Streams are cut after random numbers of bytes, in handshakes as well, while both ends send all they can.
class RandomCuts : public ChannelSession, public ::testing::WithParamInterface<uint32_t> {};

TEST_P(RandomCuts, LoseDoubleAndReorderNothing) {
  const char* replay = std::getenv("MUSTER_TEST_SEED");
  const uint32_t seed = replay != nullptr ? static_cast<uint32_t>(std::strtoul(replay, nullptr, 10)) : GetParam();
  SCOPED_TRACE(absl::StrCat("replay: MUSTER_TEST_SEED=", seed, " channel_session_test --gtest_filter='*RandomCuts*'"));
  std::mt19937 random(seed);
  constexpr uint64_t kMessages = 700;
  coordinator_.Start(authority_.get());
  StartRelay();
  relay_->bytes_until_cut = [&] { return std::uniform_int_distribution<int64_t>(1, 100'000)(random); };
  agent_.Start(relay_->address(), Ticket(6),
               {.retry_after_min = absl::Milliseconds(1), .retry_after_max = absl::Milliseconds(5)});
  ASSERT_TRUE(Await([&] { return agent_.ups == 1; }));
  uint64_t sent = 0;
  std::uniform_int_distribution<size_t> bytes(0, 1000);
  ASSERT_TRUE(Await([&] {
    for (int i = 0; i < 5 && sent < kMessages; ++i) {
      ++sent;
      agent_.Send(sent, bytes(random));
      coordinator_.Send(6, sent, bytes(random));
    }
    return agent_.got.size() >= kMessages && coordinator_.got.size() >= kMessages;
  })) << agent_.got.size()
      << " and " << coordinator_.got.size() << " of " << kMessages << " after " << relay_->cuts() << " cuts";
  EXPECT_EQ(agent_.got, UpTo(kMessages));
  EXPECT_EQ(NumbersOf(coordinator_.got), UpTo(kMessages));
  EXPECT_EQ(agent_.ups, 1);
  EXPECT_THAT(coordinator_.lost, IsEmpty());
  EXPECT_GE(relay_->cuts(), 5);
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomCuts, ::testing::Values(1u, 2u, 3u));

}  // namespace
}  // namespace muster
