// The socket on which a worker takes connections of its peers on other nodes: opened by the agent, which tells its port before
// the worker runs, and handed to the worker with its generation.
#ifndef MUSTER_LAUNCHER_AGENT_DATA_LISTENER_H_
#define MUSTER_LAUNCHER_AGENT_DATA_LISTENER_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/base/fd.h"

namespace muster {

struct DataListener {
  UniqueFd socket;  // bound, not listening yet; non-blocking, close-on-exec
  uint16_t port = 0;
};

// On a free port of `address` (numeric, IPv4 or IPv6; an address of this node), which is the job's from here on. Nothing listens
// there before the worker does, who can tell a peer from a stranger; peers that are faster dial again.
// Errors: InvalidArgument (no numeric address), others from bind(2), which name the address.
absl::StatusOr<DataListener> OpenDataListener(const std::string& address);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_DATA_LISTENER_H_
