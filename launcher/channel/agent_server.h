// The coordinator's end of the agents' streams: gRPC over TLS, with sessions that survive the streams.
#ifndef MUSTER_LAUNCHER_CHANNEL_AGENT_SERVER_H_
#define MUSTER_LAUNCHER_CHANNEL_AGENT_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "launcher/channel/authority.h"
#include "muster/v1/agent.pb.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/log.h"

namespace muster {

struct AgentServerOptions {
  std::string job_id;                                  // 16 bytes
  std::string listen = "0.0.0.0";                      // numeric, IPv4 or IPv6
  uint16_t port = 0;                                   // 0: any that is free
  Authority* authority = nullptr;                      // outlives the server
  std::string join_key = "";                           // agents that hold it get a ticket from us (join_key.h); empty: nobody does
  uint32_t join_nodes = 0;                             // for nodes below this
  // Asked once an agent has shown a ticket: whether the token beside it (may be empty) is that of one of ours. Null: nobody needs one. Its
  // error is the agent's, as Unauthenticated.
  std::function<absl::Status(uint32_t node, absl::string_view token)> check_identity = nullptr;
  absl::Duration resume_within = absl::Seconds(10);    // a broken stream's session waits so long for the next
  absl::Duration handshake_within = absl::Seconds(5);  // from a connection to its Proof
  size_t unacknowledged_bytes_max = 64 << 20;          // kept for an agent that does not answer; beyond it is lost
};

// Somebody who was turned away.
struct ServerRefusal {
  std::string what;  // "plain text", "no certificate", "a certificate of another authority", "a token used before", ...
  std::string from;  // numeric address and port
};

// Who connects is looked at before gRPC sees it (FrontDoor), then proves by the signed challenge in its stream that it holds the
// key of a certificate of ours; where TLS shows a certificate as well, that must name the same node. Only the newest certificate of
// a node counts. Connections that have proved nothing are bounded in number and in time.
//
// Methods belong to the loop's thread, where the callbacks come too, never from inside a call to this class. The loop
// outlives it; it is not destroyed from inside one of its callbacks.
class AgentServer {
 public:
  struct Callbacks {
    // Each once, in order, over all streams of the agent's session. A Join follows a new session.
    std::function<void(uint32_t node, v1::AgentMessage message)> message;
    // The session is over: its stream broke and no other came, or the agent closed it.
    std::function<void(uint32_t node, std::string why)> lost;
    std::function<void(const ServerRefusal& refusal)> refused;
    std::function<void(LogLevel level, const std::string& line)> log;
  };

  // gRPC's threads inherit the caller's signal mask: block what the process waits for first. Errors: InvalidArgument (`listen`), those
  // of bind and listen.
  static absl::StatusOr<std::unique_ptr<AgentServer>> Create(EventLoop* loop, AgentServerOptions options, Callbacks callbacks);
  virtual ~AgentServer() = default;

  // In order. Kept until the agent acknowledges it; dropped when it has no session.
  virtual void Send(uint32_t node, v1::CoordinatorMessage message) = 0;
  // Ends the agent's session, if any, without a call of `lost`: whatever comes from it later is refused until it enrols again.
  virtual void Drop(uint32_t node) = 0;
  // Calls `done` when all agents have acknowledged all, or after `at_most`.
  virtual void Flush(absl::Duration at_most, std::function<void()> done) = 0;

  virtual uint16_t port() const = 0;
  virtual uint64_t refusals() const = 0;
  // Since the last message of any kind from this agent; infinite without a session.
  virtual absl::Duration SilentFor(uint32_t node) const = 0;

 protected:
  AgentServer() = default;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CHANNEL_AGENT_SERVER_H_
