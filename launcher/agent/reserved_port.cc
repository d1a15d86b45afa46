#include "launcher/agent/reserved_port.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <utility>

#include "runtime/base/status.h"

namespace muster {

absl::StatusOr<ReservedPort> ReservedPort::Reserve() {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return ErrnoToStatus(errno, "socket for MASTER_PORT");
  const int on = 1;
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) {
    return ErrnoToStatus(errno, "SO_REUSEADDR for MASTER_PORT");
  }
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  socklen_t length = sizeof address;
  if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return ErrnoToStatus(errno, "reserve a port for MASTER_PORT (choose one with --master-port)");
  }
  return ReservedPort(std::move(socket), ntohs(address.sin_port));
}

}  // namespace muster
