// Both ends of the agents' streams, and what they were told.
#ifndef MUSTER_TESTS_SUPPORT_CHANNEL_PARTIES_H_
#define MUSTER_TESTS_SUPPORT_CHANNEL_PARTIES_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "launcher/channel/agent_client.h"
#include "launcher/channel/agent_server.h"
#include "launcher/channel/authority.h"
#include "runtime/base/event_loop.h"

namespace muster::test {

inline constexpr absl::Duration kChannelPatience = absl::Seconds(60);
inline const std::string kTestJob(16, '\x5a');

// Runs `loop` until `condition` holds. False when kChannelPatience passed first.
bool Await(EventLoop* loop, const std::function<bool()>& condition);

// Runs `blocking` on a thread of its own while `loop` runs; false as above (and the thread is waited for all the same).
bool RunBeside(EventLoop* loop, const std::function<void()>& blocking);

// Messages are told apart by their generation.
struct TestCoordinator {
  explicit TestCoordinator(EventLoop* loop) : loop(loop) {}

  void Start(Authority* authority, AgentServerOptions options = {});
  void Send(uint32_t node, uint64_t number, size_t extra_bytes = 0);
  std::string address() const;
  int Refused(absl::string_view what) const;  // how often

  EventLoop* const loop;
  std::unique_ptr<AgentServer> server;
  std::vector<std::pair<uint32_t, uint64_t>> got;
  std::vector<std::string> lost;  // "3: why"
  std::vector<ServerRefusal> refused;
  bool echo = false;  // every message is sent back
};

struct TestAgent {
  explicit TestAgent(EventLoop* loop) : loop(loop) {}

  void Start(const std::string& coordinator, const JoinTicket& ticket, AgentClientOptions options = {});
  void Send(uint64_t number, size_t extra_bytes = 0);

  EventLoop* const loop;
  std::unique_ptr<AgentClient> client;
  int ups = 0;
  int downs = 0;
  int resumes = 0;
  std::vector<uint64_t> got;
  absl::Status refused;
  std::vector<std::string> said;
};

}  // namespace muster::test

#endif  // MUSTER_TESTS_SUPPORT_CHANNEL_PARTIES_H_
