// Sockets on 127.0.0.1, where MPI libraries look for us, and who is at their other end.
#ifndef MUSTER_LAUNCHER_MPI_LOOPBACK_H_
#define MUSTER_LAUNCHER_MPI_LOOPBACK_H_

#include <sys/types.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/base/fd.h"

namespace muster {

struct LoopbackListener {
  UniqueFd socket;  // listening; non-blocking, close-on-exec
  uint16_t port = 0;
};

// On a free port. Connections wait in the kernel until somebody takes them.
absl::StatusOr<LoopbackListener> ListenOnLoopback();

// Connects to a port where somebody listens already, which takes no time. Non-blocking, close-on-exec, without delay.
absl::StatusOr<UniqueFd> ConnectOnLoopback(uint16_t port);

// A connection that waits, if its other end belongs to a process of our own user (or root). Non-blocking, close-on-exec, without
// delay. Errors: Unavailable (none waits), PermissionDenied (it was another user's, or its other end is closed already; it is closed
// here too), others from accept(2).
absl::StatusOr<UniqueFd> AcceptOwn(int listener);

// The user whose process holds the other end of `connected`, as the kernel tells. Source: sock_diag(7), else /proc/net/tcp
// (proc(5)). Errors: NotFound (nobody holds the other end any more), others of those.
absl::StatusOr<uid_t> PeerUser(int connected);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_MPI_LOOPBACK_H_
