// A TCP port that nobody else is given while a job runs, though one of its workers will listen on it.
#ifndef MUSTER_LAUNCHER_AGENT_RESERVED_PORT_H_
#define MUSTER_LAUNCHER_AGENT_RESERVED_PORT_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "runtime/base/fd.h"

namespace muster {

// Held until destroyed: bound with SO_REUSEADDR and not listening, so that the kernel gives the number to nobody who asks for
// any free port, while a worker that binds it by number with SO_REUSEADDR (as every rendezvous server does) may listen on it.
class ReservedPort {
 public:
  static absl::StatusOr<ReservedPort> Reserve();
  uint16_t port() const { return port_; }

 private:
  ReservedPort(UniqueFd socket, uint16_t port) : socket_(std::move(socket)), port_(port) {}
  UniqueFd socket_;
  uint16_t port_ = 0;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_RESERVED_PORT_H_
