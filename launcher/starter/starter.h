// Gets agents onto nodes, and says when one is gone. One file per way to reach a node.
#ifndef MUSTER_LAUNCHER_STARTER_STARTER_H_
#define MUSTER_LAUNCHER_STARTER_STARTER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace muster {

// Belongs to the loop's thread, where the callbacks come too.
class Starter {
 public:
  struct Callbacks {
    // This node's agent has ended, or could not be started: "killed by SIGKILL", "exited with 70", or a sentence of its own. Sooner
    // than its stream could tell.
    std::function<void(uint32_t node, std::string why)> ended;
    // It could not be started, and to try again is of no use before somebody has changed something: a sentence that names the host
    // and the remedy.
    std::function<void(uint32_t node, std::string why)> hopeless;
  };
  virtual ~Starter() = default;

  // Starts (or, after `ended`, starts again) the agent of `node`, which finds the coordinator at `coordinator` ("HOST:PORT"),
  // giving it `ticket` (a line of text) by a descriptor or a file of its own, never in arguments or environment.
  virtual absl::Status Start(uint32_t node, const std::string& coordinator, const std::string& ticket) = 0;
  // Ends this node's agent, if it still runs, at once and with everything it started, also what is stopped; `ended` follows.
  virtual void End(uint32_t node) = 0;
  // Ends all agents that still run, at once, with everything they started; there is no `ended` for them.
  virtual void EndAll() = 0;
  // Agents that were started and have not ended, as far as this kind of starter sees it.
  virtual uint32_t running() const = 0;
  // Whether `ended` is called for the agent of this node: else the end of its session is all that is ever known of it.
  virtual bool sees_ends(uint32_t node) const = 0;
  // Where the coordinator shall listen, numeric: all nodes can reach it there.
  virtual const std::string& listen_address() const = 0;
  // Numeric addresses at which agents find it, to be tried in this order; empty: listen_address() alone.
  virtual const std::vector<std::string>& offers() const {
    static const std::vector<std::string>* const none = new std::vector<std::string>;
    return *none;
  }
};

// How many workers each of `nodes` (at least 1) holds of `workers`: as even as can be, the first nodes one more.
std::vector<uint32_t> SpreadSlots(uint32_t workers, uint32_t nodes);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_STARTER_STARTER_H_
