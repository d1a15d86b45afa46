// Keeps an agent on each node of a job: starts it, starts it again when it is gone, gives it up when that is in vain.
#ifndef MUSTER_LAUNCHER_PROCESS_AGENT_KEEPER_H_
#define MUSTER_LAUNCHER_PROCESS_AGENT_KEEPER_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "launcher/process/node_slots.h"
#include "launcher/starter/starter.h"
#include "runtime/base/event_loop.h"

namespace muster {

// Belongs to the loop's thread. What the starter and the server tell of a node's agent is passed on to it; it also remembers who has
// a session.
class AgentKeeper {
 public:
  // Whether agents that are gone shall be replaced.
  enum class Want {
    kNo,         // the job is over, or about to be
    kUndecided,  // that is being found out
    kYes,
  };
  struct Options {
    std::vector<std::string> names;  // of the nodes, for people
    uint32_t workers = 1;            // wanted
    uint32_t workers_min = 1;        // fewer slots than these are not enough
  };
  struct Callbacks {
    std::function<Want()> want;
    // Starts the agent of this node with a ticket that is good for so long.
    std::function<absl::Status(uint32_t node, absl::Duration ticket_good_for)> start;
    // The job goes on without this node; so many workers less are to be hoped for than are wanted.
    std::function<void(uint32_t workers, uint32_t node)> fewer_hoped_for;
    // Too few nodes are left: the sentence of the verdict.
    std::function<void(const std::string& sentence)> not_enough;
  };
  // `starter` and `slots` are borrowed.
  AgentKeeper(EventLoop* loop, const Starter* starter, const NodeSlots* slots, Options options, Callbacks callbacks);
  ~AgentKeeper();

  void StartAll();
  // The agent has begun a session.
  void SessionBegan(uint32_t node) { nodes_[node].has_session = true; }
  // The session is over; returns whether there was one.
  bool SessionOver(uint32_t node) { return std::exchange(nodes_[node].has_session, false); }
  // Why the agent's process has ended, for the day when the node is given up.
  void NoteEnd(uint32_t node, const std::string& why) { nodes_[node].last_end = why; }
  // The agent is gone: it is started again after a while, if one is wanted, or the node is given up.
  void Replace(uint32_t node);
  // It could not be started, and to try again is of no use.
  void Hopeless(uint32_t node, const std::string& why);
  // It has made its workers ready: what was in vain before does not count any more.
  void Ready(uint32_t node) { nodes_[node].starts_in_vain = 0; }
  // Nothing is wanted of this node; its session is over.
  void Release(uint32_t node);

  bool has_session(uint32_t node) const { return nodes_[node].has_session; }
  bool any_session() const;
  uint32_t nodes() const { return static_cast<uint32_t>(nodes_.size()); }

 private:
  struct Node {
    uint32_t starts_in_vain = 0;
    bool given_up = false;
    std::string last_end;
    std::optional<EventLoop::TimerId> timer;  // to its next start
    bool has_session = false;
  };

  void Start(uint32_t node);
  void StartIfWanted(uint32_t node);
  void GiveUp(uint32_t node, const std::string& why);
  void ConcludeNotEnough();

  EventLoop* const loop_;
  const Starter* const starter_;
  const NodeSlots* const slots_;
  const Options options_;
  const Callbacks callbacks_;
  std::vector<Node> nodes_;
  std::vector<std::string> reasons_;  // why there are not enough nodes
  int64_t not_enough_deadline_ns_ = 0;
  std::optional<EventLoop::TimerId> conclusion_;
};

// "its process was killed by SIGKILL" of what a Starter says of an end; sentences stay as they are.
std::string AgentEndText(const std::string& why);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_AGENT_KEEPER_H_
