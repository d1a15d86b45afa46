// Tells the coordinator of connections that this node has turned away.
#ifndef MUSTER_LAUNCHER_AGENT_REFUSAL_TELLER_H_
#define MUSTER_LAUNCHER_AGENT_REFUSAL_TELLER_H_

#include <functional>
#include <optional>

#include "muster/v1/agent.pb.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/refusal_tally.h"

namespace muster {

// At once, but at most once a second, by kind: strangers choose how many there are. Belongs to the loop's thread.
class RefusalTeller {
 public:
  RefusalTeller(EventLoop* loop, std::function<void(v1::Refusal refusal)> send) : loop_(loop), send_(std::move(send)) {}
  ~RefusalTeller();

  void Add(RefusalCount refused);
  // Tells what still waits, from inside this call.
  void Flush();

 private:
  void Tell();

  EventLoop* const loop_;
  const std::function<void(v1::Refusal refusal)> send_;
  RefusalTally refusals_;
  std::optional<EventLoop::TimerId> timer_;  // until the next ones may be told
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_REFUSAL_TELLER_H_
