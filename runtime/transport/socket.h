// TCP sockets as this room uses them: non-blocking, close-on-exec, never a SIGPIPE.
#ifndef MUSTER_RUNTIME_TRANSPORT_SOCKET_H_
#define MUSTER_RUNTIME_TRANSPORT_SOCKET_H_

#include <sys/socket.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/base/fd.h"
#include "runtime/transport/address.h"

namespace muster {

// The length of `*out` that is filled.
socklen_t ToSockaddr(const SocketAddress& address, sockaddr_storage* out);
// IPv4 addresses mapped into IPv6 are IPv4 again; of other families the port is 0.
SocketAddress FromSockaddr(const sockaddr_storage& address);

// A socket on its way to `address`: connected or still connecting (then SocketError says how it went once it is writable).
// Errors: from socket(2) and connect(2).
absl::StatusOr<UniqueFd> BeginConnect(const SocketAddress& address);

// What SO_ERROR holds, cleared by asking; 0: no error.
int SocketError(int fd);

// Small frames leave at once; a peer's kernel that acknowledges nothing for `silence_max`, whether or not data is on the way,
// breaks the connection. Source: tcp(7), RFC 5482.
absl::Status PrepareConnection(int fd, absl::Duration silence_max);

// Takes back half of that: a peer's process may leave data untaken for as long as it likes. Linux counts the time for which a
// window stays shut as unacknowledged, though the other kernel answers every probe (tcp_probe_timer, net/ipv4/tcp_timer.c).
absl::Status AllowFullWindow(int fd);

// Ends the connection for the peer too where a forked child still holds a copy of `fd`, then closes it.
void ShutDown(UniqueFd* fd);

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRANSPORT_SOCKET_H_
