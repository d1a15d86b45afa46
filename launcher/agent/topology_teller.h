// Tells the coordinator what this machine looks like and which cores other jobs hold, and holds those of our own workers.
#ifndef MUSTER_LAUNCHER_AGENT_TOPOLOGY_TELLER_H_
#define MUSTER_LAUNCHER_AGENT_TOPOLOGY_TELLER_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "launcher/agent/core_locks.h"
#include "muster/v1/agent.pb.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/log.h"

namespace muster {

// For jobs whose workers are to be placed. Belongs to the loop's thread.
class TopologyTeller {
 public:
  struct Callbacks {
    std::function<void(v1::NodeTopology topology)> send;
    std::function<void(LogLevel level, const std::string& line)> log;
  };
  TopologyTeller(EventLoop* loop, std::string job_id, Callbacks callbacks)
      : loop_(loop), job_id_(std::move(job_id)), callbacks_(std::move(callbacks)) {}
  ~TopologyTeller();

  // Calls `send` once: at once, or when those jobs that are about to choose their cores have chosen, which is waited for at most 2 s.
  // `has_workers`: what they hold they hold (a coordinator that came back).
  void Tell(bool has_workers);
  // Takes the cores of these places, and lets go of the others. Before the first worker of a generation starts.
  void Settle(const v1::Prepare& prepare);

 private:
  void Look();
  void Send(std::string xml, const std::vector<HeldCpus>& held);

  EventLoop* const loop_;
  const std::string job_id_;
  const Callbacks callbacks_;
  bool has_workers_ = false;
  std::optional<CoreLocks> core_locks_;
  std::optional<EventLoop::TimerId> timer_;  // to the next look at cores that others are about to let go of
  int looks_ = 0;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_TOPOLOGY_TELLER_H_
