// Nodes simulated on this machine: one agent process each, in a network of its own where that may be made.
#ifndef MUSTER_LAUNCHER_STARTER_LOCAL_STARTER_H_
#define MUSTER_LAUNCHER_STARTER_LOCAL_STARTER_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "launcher/starter/child.h"
#include "launcher/starter/node_network.h"
#include "launcher/starter/starter.h"
#include "runtime/base/event_loop.h"

namespace muster {

struct LocalStarterOptions {
  enum class Network {
    kAuto,        // namespaces for two nodes and more where they may be made, else the machine's own network
    kNamespaces,  // the same, but that it was not possible is said
    kHost,        // node i is at 127.0.0.(1+i), and reaches what the machine reaches
  };
  uint32_t nodes = 1;
  std::vector<std::string> host_names;  // of the nodes, in order; empty: node0 and up
  Network network = Network::kAuto;
  std::string program;                 // path of `muster`
  std::vector<std::string> arguments;  // more for each `muster agent`
};

// Agents are children of this process, each in a process group of its own, so that a terminal's Ctrl-C does not reach them.
class LocalStarter final : public Starter {
 public:
  // May move the process into a network namespace, so call it while there is one thread. `warn`: one line for a person.
  static absl::StatusOr<std::unique_ptr<LocalStarter>> Create(EventLoop* loop, LocalStarterOptions options, Callbacks callbacks,
                                                              const std::function<void(const std::string& line)>& warn);
  ~LocalStarter() override;

  // The ticket goes through a pipe, as `--ticket-fd 3`. Errors: FailedPrecondition (it still runs), those of posix_spawn(3).
  absl::Status Start(uint32_t node, const std::string& coordinator, const std::string& ticket) override;
  void End(uint32_t node) override;
  void EndAll() override;
  uint32_t running() const override { return static_cast<uint32_t>(agents_.size()); }
  bool sees_ends(uint32_t) const override { return true; }
  const std::string& listen_address() const override { return listen_address_; }

  bool has_own_network() const { return network_ != nullptr; }
  std::string NodeAddress(uint32_t node) const;
  std::string HostName(uint32_t node) const;

 private:
  LocalStarter(EventLoop* loop, LocalStarterOptions options, Callbacks callbacks)
      : loop_(loop), options_(std::move(options)), callbacks_(std::move(callbacks)) {}
  absl::Status Spawn(uint32_t node, const std::string& coordinator, int ticket_fd);

  EventLoop* const loop_;
  const LocalStarterOptions options_;
  const Callbacks callbacks_;
  std::unique_ptr<NodeNetwork> network_;  // null: the machine's own
  std::string listen_address_;
  std::map<uint32_t, std::unique_ptr<Child>> agents_;  // by node
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_STARTER_LOCAL_STARTER_H_
