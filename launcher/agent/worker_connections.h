// The agent's Unix socket: accepts workers' connections and carries frames. Who may say what is the caller's business.
#ifndef MUSTER_LAUNCHER_AGENT_WORKER_CONNECTIONS_H_
#define MUSTER_LAUNCHER_AGENT_WORKER_CONNECTIONS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "launcher/agent/worker_identity.h"
#include "muster/v1/worker.pb.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"
#include "runtime/base/frame.h"

namespace muster {

// Belongs to the loop's thread. Only processes of our own user get in. A connection that is not settled within 10 s is closed,
// and there are bounds on how many such there are and on what waits for a peer that does not read.
class WorkerConnections {
 public:
  using Id = uint64_t;  // never used twice
  struct Handlers {
    // What is not OK is said to the peer, and the connection ends. May end any connection itself.
    std::function<absl::Status(Id id, Frame frame)> frame;
    std::function<void(Id id)> closed;  // by the peer or for an error; not after Refuse or Close
    // Counted and logged already, with the process that was turned away, 0 if it is not visible from here.
    std::function<void(pid_t pid, absl::string_view reason)> refused;
  };

  static absl::StatusOr<std::unique_ptr<WorkerConnections>> Listen(EventLoop* loop, Handlers handlers);
  ~WorkerConnections();
  WorkerConnections(const WorkerConnections&) = delete;
  WorkerConnections& operator=(const WorkerConnections&) = delete;

  // Abstract, with 128 random bits.
  const std::string& name() const { return name_; }

  const PeerIdentity& PeerOf(Id id) const;
  // The peer is known now: it may stay.
  void Settle(Id id);
  // Nothing happens if the connection is gone. Borrows `fds` for the call.
  void Send(Id id, const v1::AgentToWorker& message, const std::vector<int>& fds = {});
  // Says why and closes. Counted and logged.
  void Refuse(Id id, const absl::Status& reason);
  void Close(Id id);

  int64_t refusals() const { return refusals_; }

 private:
  struct Connection {
    UniqueFd socket;
    PeerIdentity peer;
    FrameReader reader;
    FrameWriter writer;
    std::optional<EventLoop::TimerId> settle_timer;  // until it is settled
    bool waits_to_write = false;
    explicit Connection(UniqueFd socket);
  };

  WorkerConnections(EventLoop* loop, Handlers handlers, std::string name, UniqueFd listener);
  absl::Status StartAccepting();
  void Accept();
  void PauseAccepting();
  void Admit(UniqueFd socket);
  void Serve(Id id, uint32_t ready);
  void ReadFrames(Id id);
  void Fail(Id id, const absl::Status& error);
  void CountRefusal(pid_t pid, absl::string_view reason);

  EventLoop* const loop_;
  const Handlers handlers_;
  const std::string name_;
  UniqueFd listener_;
  std::optional<EventLoop::TimerId> accept_timer_;  // accepting pauses while descriptors are short
  Id next_id_ = 1;
  std::map<Id, std::unique_ptr<Connection>> connections_;
  size_t unsettled_ = 0;
  int64_t refusals_ = 0;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_WORKER_CONNECTIONS_H_
