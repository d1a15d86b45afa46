#include "launcher/agent/data_listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {

absl::StatusOr<DataListener> OpenDataListener(const std::string& address) {
  union {
    sockaddr_in6 v6;  // the largest, so all of it is zero
    sockaddr_in v4;
    sockaddr any;
  } bound = {};
  socklen_t length = 0;
  if (::inet_pton(AF_INET, address.c_str(), &bound.v4.sin_addr) == 1) {
    bound.v4.sin_family = AF_INET;
    length = sizeof bound.v4;
  } else if (::inet_pton(AF_INET6, address.c_str(), &bound.v6.sin6_addr) == 1) {
    bound.v6.sin6_family = AF_INET6;
    length = sizeof bound.v6;
  } else {
    return absl::InvalidArgumentError(absl::StrCat("this node's address is no numeric one: \"", address, "\""));
  }
  DataListener listener;
  listener.socket.Reset(::socket(bound.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.socket) return ErrnoToStatus(errno, "socket for a worker's peers");
  if (::bind(listener.socket.get(), &bound.any, length) != 0 ||
      ::getsockname(listener.socket.get(), &bound.any, &length) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("bind to ", address, " for a worker's peers"));
  }
  listener.port = ntohs(bound.any.sa_family == AF_INET ? bound.v4.sin_port : bound.v6.sin6_port);
  return listener;
}

}  // namespace muster
