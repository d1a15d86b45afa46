#include "tests/support/channel_parties.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"

namespace muster::test {

bool Await(EventLoop* loop, const std::function<bool()>& condition) {
  bool late = false;
  const EventLoop::TimerId end = loop->After(kChannelPatience, [&] {
    late = true;
    loop->Quit();
  });
  EventLoop::TimerId next;
  bool looking = false;
  std::function<void()> look = [&] {
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

bool RunBeside(EventLoop* loop, const std::function<void()>& blocking) {
  std::atomic<bool> done = false;
  std::thread thread([&] {
    blocking();
    done = true;
  });
  const bool in_time = Await(loop, [&] { return done.load(); });
  thread.join();
  return in_time;
}

void TestCoordinator::Start(Authority* authority, AgentServerOptions options) {
  options.job_id = kTestJob;
  options.listen = "127.0.0.1";
  options.authority = authority;
  server =
      AgentServer::Create(loop, options,
                          {.message =
                               [this](uint32_t node, v1::AgentMessage message) {
                                 got.emplace_back(node, message.generation());
                                 if (echo) Send(node, message.generation());
                               },
                           .lost = [this](uint32_t node, std::string why) { lost.push_back(absl::StrCat(node, ": ", why)); },
                           .refused = [this](const ServerRefusal& refusal) { refused.push_back(refusal); },
                           .log = [](LogLevel, const std::string&) {}})
          .value();
}

void TestCoordinator::Send(uint32_t node, uint64_t number, size_t extra_bytes) {
  v1::CoordinatorMessage message;
  message.set_generation(number);
  if (extra_bytes > 0) message.mutable_input()->set_bytes(std::string(extra_bytes, 'i'));
  server->Send(node, std::move(message));
}

std::string TestCoordinator::address() const { return absl::StrCat("127.0.0.1:", server->port()); }

int TestCoordinator::Refused(absl::string_view what) const {
  return static_cast<int>(
      std::count_if(refused.begin(), refused.end(), [&](const ServerRefusal& refusal) { return refusal.what == what; }));
}

void TestAgent::Start(const std::string& coordinator, const JoinTicket& ticket, AgentClientOptions options) {
  options.coordinator = coordinator;
  options.ticket = ticket;
  client = AgentClient::Create(loop, options,
                               {.up = [this] { ++ups; },
                                .down = [this] { ++downs; },
                                .resumed = [this] { ++resumes; },
                                .message = [this](v1::CoordinatorMessage message) { got.push_back(message.generation()); },
                                .refused = [this](absl::Status why) { refused = std::move(why); },
                                .log = [this](LogLevel, const std::string& line) { said.push_back(line); }})
               .value();
}

void TestAgent::Send(uint64_t number, size_t extra_bytes) {
  v1::AgentMessage message;
  message.set_generation(number);
  if (extra_bytes > 0) message.mutable_output()->set_text(std::string(extra_bytes, 'o'));
  client->Send(std::move(message));
}

}  // namespace muster::test
