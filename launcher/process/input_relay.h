// Standard input between the command and whichever node holds rank 0: one piece on its way at a time.
#ifndef MUSTER_LAUNCHER_PROCESS_INPUT_RELAY_H_
#define MUSTER_LAUNCHER_PROCESS_INPUT_RELAY_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

#include "muster/v1/agent.pb.h"

namespace muster {

// What a rank 0 that has ended did not read is lost; its successor gets what comes after. Not thread-safe.
class InputRelay {
 public:
  struct Callbacks {
    std::function<void(const v1::Input& input)> send;  // to the node of rank 0
    std::function<void()> taken;                       // to the command: the next piece, please
  };
  explicit InputRelay(Callbacks callbacks) : callbacks_(std::move(callbacks)) {}

  // From the command; the next follows `taken`.
  void Offer(v1::Input input);
  // From the agent.
  void Taken(const v1::InputTaken& taken);
  // A generation runs: there is a rank 0.
  void Running(uint64_t generation);
  // It does not run any more.
  void Pause() { running_ = false; }

 private:
  void Pass();

  const Callbacks callbacks_;
  bool running_ = false;
  uint64_t generation_ = 0;
  std::optional<v1::Input> waiting_;
  bool on_its_way_ = false;
  bool ended_ = false;  // the end was sent, to some rank 0
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_INPUT_RELAY_H_
