// A network of simulated nodes inside one machine: a network namespace for the coordinator with a bridge, and for each node one
// more with a host name and an address of its own, joined by TCP over veth pairs. Nothing of it has a name on the machine, so all
// of it vanishes with the processes inside. It has no way to any other network.
//
// Source: network_namespaces(7), uts_namespaces(7), veth(4), ip-link(8).
#ifndef MUSTER_LAUNCHER_STARTER_NODE_NETWORK_H_
#define MUSTER_LAUNCHER_STARTER_NODE_NETWORK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/base/fd.h"

namespace muster {

class NodeNetwork {
 public:
  // `host_names`: of the nodes, in order; empty: node0 and up.
  // Moves the calling thread into the coordinator's namespace: call it before any other thread is started, they inherit it.
  // Errors: PermissionDenied (not root), NotFound (no `ip`), and what `ip` says; the thread is then where it was.
  static absl::StatusOr<std::unique_ptr<NodeNetwork>> Create(uint32_t nodes, const std::vector<std::string>& host_names = {});

  // Calls `start` inside the node's namespaces: processes that it starts stay there.
  absl::Status Inside(uint32_t node, const std::function<absl::Status()>& start) const;

  static std::string CoordinatorAddress() { return "10.77.0.1"; }
  static std::string NodeAddress(uint32_t node);
  static constexpr uint32_t kNodesMax = 250 * 250;

 private:
  struct Place {
    UniqueFd network;
    UniqueFd host_name;
  };
  static absl::StatusOr<Place> Here();
  static absl::Status Enter(const Place& place);
  absl::Status Build(uint32_t nodes, const std::vector<std::string>& host_names);

  bool moved_ = false;  // out of the namespaces that we began in
  Place coordinator_;
  std::vector<Place> nodes_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_STARTER_NODE_NETWORK_H_
