// The coordinator's and the agents' ends of the streams, over real sockets on this machine.
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/channel/agent_client.h"
#include "launcher/channel/agent_server.h"
#include "launcher/channel/authority.h"
#include "runtime/base/event_loop.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::Duration kPatience = absl::Seconds(60);
const std::string kJob(16, '\x5a');

// Runs `loop` until `condition` holds. False when kPatience passed first.
bool Await(EventLoop* loop, const std::function<bool()>& condition) {
  bool late = false;
  const EventLoop::TimerId end = loop->After(kPatience, [&] {
    late = true;
    loop->Quit();
  });
  std::function<void()> look;
  EventLoop::TimerId next;
  bool looking = false;
  look = [&] {
    looking = false;
    if (condition()) return loop->Quit();
    looking = true;
    next = loop->After(absl::Milliseconds(1), look);
  };
  look();
  loop->Run();
  if (looking) loop->Cancel(next);
  loop->Cancel(end);
  return !late;
}

// A server and what it was told.
struct Coordinator {
  explicit Coordinator(EventLoop* loop) : loop(loop) {}

  void Start(Authority* authority, AgentServerOptions options = {}) {
    options.job_id = kJob;
    options.listen = "127.0.0.1";
    options.authority = authority;
    server =
        AgentServer::Create(loop, options,
                            {.message =
                                 [this](uint32_t node, v1::AgentMessage message) {
                                   got.emplace_back(node, message.generation());
                                   if (echo) {
                                     v1::CoordinatorMessage answer;
                                     answer.set_generation(message.generation());
                                     server->Send(node, answer);
                                   }
                                 },
                             .lost = [this](uint32_t node, std::string why) { lost.push_back(absl::StrCat(node, ": ", why)); },
                             .refused = [this](const ServerRefusal& refusal) { refused.push_back(refusal.what); },
                             .log = [](LogLevel, const std::string&) {}})
            .value();
  }
  std::string address() const { return absl::StrCat("127.0.0.1:", server->port()); }

  EventLoop* const loop;
  std::unique_ptr<AgentServer> server;
  std::vector<std::pair<uint32_t, uint64_t>> got;
  std::vector<std::string> lost;
  std::vector<std::string> refused;
  bool echo = false;
};

// A client and what it was told.
struct Agent {
  explicit Agent(EventLoop* loop) : loop(loop) {}

  void Start(const std::string& coordinator, const JoinTicket& ticket) {
    AgentClientOptions options;
    options.coordinator = coordinator;
    options.ticket = ticket;
    client = AgentClient::Create(loop, options,
                                 {.up = [this] { ++ups; },
                                  .down = [this] { ++downs; },
                                  .resumed = [this] { ++resumes; },
                                  .message = [this](v1::CoordinatorMessage message) { got.push_back(message.generation()); },
                                  .refused = [this](absl::Status why) { refused = why; },
                                  .log = [this](LogLevel, const std::string& line) { said.push_back(line); }})
                 .value();
  }
  void Send(uint64_t number) {
    v1::AgentMessage message;
    message.set_generation(number);
    client->Send(message);
  }

  EventLoop* const loop;
  std::unique_ptr<AgentClient> client;
  int ups = 0, downs = 0, resumes = 0;
  std::vector<uint64_t> got;
  absl::Status refused;
  std::vector<std::string> said;
};

class ChannelTest : public ::testing::Test {
 protected:
  std::unique_ptr<EventLoop> loop_ = EventLoop::Create().value();
  std::unique_ptr<Authority> authority_ = Authority::Create(kJob).value();
  Coordinator coordinator_{loop_.get()};
  Agent agent_{loop_.get()};
};

TEST_F(ChannelTest, AnAgentJoinsSpeaksAndLeaves) {
  coordinator_.Start(authority_.get());
  coordinator_.echo = true;
  agent_.Start(coordinator_.address(), authority_->MakeTicket(3, absl::Minutes(1)));
  ASSERT_TRUE(Await(loop_.get(), [&] { return agent_.ups == 1; }));
  agent_.Send(11);
  agent_.Send(12);
  ASSERT_TRUE(Await(loop_.get(), [&] { return agent_.got.size() == 2; }));
  EXPECT_THAT(coordinator_.got, ElementsAre(std::pair(3u, 11u), std::pair(3u, 12u)));
  EXPECT_THAT(agent_.got, ElementsAre(11u, 12u));
  bool done = false;
  agent_.client->Close(kPatience, [&] { done = true; });
  ASSERT_TRUE(Await(loop_.get(), [&] { return done && !coordinator_.lost.empty(); }));
  EXPECT_THAT(coordinator_.lost, ElementsAre("3: its agent has closed the session"));
  EXPECT_THAT(coordinator_.refused, IsEmpty());
  EXPECT_EQ(agent_.downs, 0);
  EXPECT_EQ(coordinator_.server->SilentFor(3), absl::InfiniteDuration());
}

}  // namespace
}  // namespace muster
