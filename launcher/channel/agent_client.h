// The agent's end of its stream to the coordinator: enrols once, connects, and connects again whenever the stream breaks.
#ifndef MUSTER_LAUNCHER_CHANNEL_AGENT_CLIENT_H_
#define MUSTER_LAUNCHER_CHANNEL_AGENT_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "launcher/channel/authority.h"
#include "muster/v1/agent.pb.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/log.h"

namespace muster {

struct AgentClientOptions {
  std::string coordinator;  // "host:port", "10.0.0.1:4242", "[::1]:4242"
  JoinTicket ticket;
  // What a cluster has signed for us, for coordinators that want to see it: asked for at each enrolment, since it changes. It goes to whoever
  // has proved to be the ticket's coordinator. Null: nothing.
  std::function<std::string()> identity_token = nullptr;
  absl::Duration retry_after_min = absl::Milliseconds(50);  // doubled up to the other, with some randomness
  absl::Duration retry_after_max = absl::Seconds(2);
  absl::Duration connect_within = absl::Seconds(10);  // one attempt: connection, TLS and proof
  // With something unacknowledged and nothing heard for so long the stream is taken for dead, and the next is tried.
  absl::Duration silence_max = absl::Seconds(5);
  size_t unacknowledged_bytes_max = 64 << 20;  // beyond it the session is given up; the next begins with `up`
};

// The agent's key is made here and never leaves the process. Proxies named in the environment are not asked.
//
// Methods belong to the loop's thread, where the callbacks come too, never from inside a call to this class. The loop
// outlives it; it is not destroyed from inside one of its callbacks.
class AgentClient {
 public:
  struct Callbacks {
    // A new session has begun (the first, or the coordinator does not know ours any more): join (again). Agent::ChannelUp.
    std::function<void()> up;
    // No stream for now. What is sent meanwhile is kept. Only for a message to the user and the orphan rule: Agent::ChannelLost.
    std::function<void()> down;
    // The stream is back and the session goes on as if nothing had been.
    std::function<void()> resumed;
    std::function<void(v1::CoordinatorMessage message)> message;
    // The coordinator will never take us: wrong ticket, used before, another version. No more calls follow.
    std::function<void(absl::Status why)> refused;
    std::function<void(LogLevel level, const std::string& line)> log;
  };

  // gRPC's threads inherit the caller's signal mask: block what the process waits for first. Errors: InvalidArgument (`coordinator`).
  static absl::StatusOr<std::unique_ptr<AgentClient>> Create(EventLoop* loop, AgentClientOptions options, Callbacks callbacks);
  virtual ~AgentClient() = default;

  // In order, and kept until acknowledged. Dropped where there is no session: before the first `up`, after `refused` and Close.
  virtual void Send(v1::AgentMessage message) = 0;
  // Bytes sent and not acknowledged yet: who forwards output stops reading it beyond a bound of its own.
  virtual size_t unacknowledged_bytes() const = 0;
  // Those messages, in their order: for who turns to another coordinator. It may have taken in the first of them.
  virtual std::vector<v1::AgentMessage> unacknowledged() const = 0;
  // Closes the session in good order once all is acknowledged, or after `at_most`, and then calls `done`. Messages are still
  // delivered until then, nothing after.
  virtual void Close(absl::Duration at_most, std::function<void()> done) = 0;

 protected:
  AgentClient() = default;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CHANNEL_AGENT_CLIENT_H_
