// Standard input between the command and the nodes of the ranks that read it: one piece on its way at a time.
#ifndef MUSTER_LAUNCHER_PROCESS_INPUT_RELAY_H_
#define MUSTER_LAUNCHER_PROCESS_INPUT_RELAY_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <utility>

#include "muster/v1/agent.pb.h"

namespace muster {

// The next piece is asked for when all nodes that still read have taken the last: the slowest sets the pace. What readers that have
// ended did not read is lost; their successors get what comes after. Not thread-safe.
class InputRelay {
 public:
  struct Callbacks {
    std::function<void(uint32_t node, const v1::Input& input)> send;
    std::function<void()> taken;  // to the command: the next piece, please
  };
  explicit InputRelay(Callbacks callbacks) : callbacks_(std::move(callbacks)) {}

  // From the command; the next follows `taken`.
  void Offer(v1::Input input);
  // From a node's agent.
  void Taken(uint32_t node, const v1::InputTaken& taken);
  // Nothing more will come from this node in this generation.
  void Lost(uint32_t node);
  // A generation runs, and these nodes hold readers.
  void Running(uint64_t generation, std::set<uint32_t> nodes);
  // It does not run any more.
  void Pause() { running_ = false; }

 private:
  void Pass();

  const Callbacks callbacks_;
  bool running_ = false;
  uint64_t generation_ = 0;
  std::set<uint32_t> nodes_;    // that read
  std::set<uint32_t> waiting_;  // of them those that have not taken the piece that is on its way
  std::optional<v1::Input> offered_;
  bool on_its_way_ = false;
  bool ended_ = false;  // the end was sent, to some readers
};

// The nodes whose ranks read, as `settings` says.
std::set<uint32_t> ReaderNodes(const v1::StdinSettings& settings, const v1::Members& members);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_INPUT_RELAY_H_
