// How many workers each node of a job gets. Pure.
#ifndef MUSTER_LAUNCHER_PROCESS_NODE_SLOTS_H_
#define MUSTER_LAUNCHER_PROCESS_NODE_SLOTS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "muster/v1/agent.pb.h"
#include "muster/v1/launch.pb.h"

namespace muster {

// Where the list of hosts leaves open how many slots some of them have, it is as many as they have cores, which only their agents
// know: until all of these have joined their Joins are held. Spares are the last nodes; nobody waits for them.
class NodeSlots {
 public:
  // Of a launch that CheckLaunch has let pass; borrowed. Looks at this machine where a pattern (ppr:N:OBJECT) is to fill it.
  explicit NodeSlots(const v1::Launch* launch);

  bool open() const { return open_; }
  // Workers that this node may hold; 0: it gets none, or that is still open.
  uint32_t of(uint32_t node) const { return slots_[node]; }
  uint32_t needed() const { return needed_; }  // nodes that are no spares
  // Whether who joins first must not decide which nodes run workers: some stand by, or may turn out not to be needed.
  bool more_than_needed() const;

  // What is known of the node once it has joined: a spare whose slots nobody has listed may hold as many as it has cores.
  void Learn(uint32_t node, const v1::Join& join);
  // Holds the Join of a node, with open() only; true: all that are needed have joined, so Fill.
  bool Hold(uint32_t node, v1::AgentMessage join);
  // Whether a Join of this node was held; it is forgotten.
  bool LetGo(uint32_t node) { return held_.erase(node) > 0; }
  // Fills the hosts as their ranks are to be mapped; not open() any more. Errors: those of FillHosts.
  absl::Status Fill();
  // What was held, by node, once the hosts are filled; nothing is held any more.
  std::map<uint32_t, v1::AgentMessage> TakeHeld();

 private:
  const v1::Launch* const launch_;
  const uint32_t needed_;
  std::vector<uint32_t> slots_;
  bool open_ = false;
  std::map<uint32_t, v1::AgentMessage> held_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_NODE_SLOTS_H_
