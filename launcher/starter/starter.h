// Gets agents onto nodes, and says when one is gone. One file per way to reach a node.
#ifndef MUSTER_LAUNCHER_STARTER_STARTER_H_
#define MUSTER_LAUNCHER_STARTER_STARTER_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"

namespace muster {

// Belongs to the loop's thread, where the callbacks come too.
class Starter {
 public:
  struct Callbacks {
    // This node's agent has ended: "killed by SIGKILL", "exited with 70". Sooner than its stream could tell.
    std::function<void(uint32_t node, std::string why)> ended;
  };
  virtual ~Starter() = default;

  // Starts (or, after `ended`, starts again) the agent of `node`, giving it `ticket` (a line of text) by a descriptor.
  virtual absl::Status Start(uint32_t node, const std::string& ticket) = 0;
  // Ends all agents that still run, at once, with everything they started.
  virtual void EndAll() = 0;
  // Where agents find the coordinator: a numeric address that all nodes can reach.
  virtual const std::string& coordinator_address() const = 0;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_STARTER_STARTER_H_
