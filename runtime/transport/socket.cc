#include "runtime/transport/socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {

socklen_t ToSockaddr(const SocketAddress& address, sockaddr_storage* out) {
  std::memset(out, 0, sizeof *out);
  if (address.family == 6) {
    auto* const v6 = reinterpret_cast<sockaddr_in6*>(out);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(address.port);
    std::memcpy(&v6->sin6_addr, address.bytes.data(), 16);
    return sizeof *v6;
  }
  auto* const v4 = reinterpret_cast<sockaddr_in*>(out);
  v4->sin_family = AF_INET;
  v4->sin_port = htons(address.port);
  std::memcpy(&v4->sin_addr, address.bytes.data(), 4);
  return sizeof *v4;
}

SocketAddress FromSockaddr(const sockaddr_storage& address) {
  SocketAddress out;
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    std::memcpy(out.bytes.data(), &v4.sin_addr, 4);
    out.port = ntohs(v4.sin_port);
  } else if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    const bool mapped = IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr);
    out.family = mapped ? 4 : 6;
    std::memcpy(out.bytes.data(), v6.sin6_addr.s6_addr + (mapped ? 12 : 0), mapped ? 4 : 16);
    out.port = ntohs(v6.sin6_port);
  }
  return out;
}

absl::StatusOr<UniqueFd> BeginConnect(const SocketAddress& address) {
  sockaddr_storage to;
  const socklen_t length = ToSockaddr(address, &to);
  UniqueFd fd(::socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return ErrnoToStatus(errno, "make a TCP socket");
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), length) != 0 && errno != EINPROGRESS && errno != EINTR) {
    return ErrnoToStatus(errno, absl::StrCat("connect to ", ToString(address)));
  }
  return fd;
}

int SocketError(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

absl::Status PrepareConnection(int fd, absl::Duration silence_max) {
  const int64_t ms = std::clamp<int64_t>(absl::ToInt64Milliseconds(silence_max), 1, 3'600'000);
  const int on = 1, silence_ms = static_cast<int>(ms), probe_s = static_cast<int>(std::max<int64_t>(1, ms / 4000));
  const struct {
    int level, name, value;
  } options
      [] =
          {
              {IPPROTO_TCP, TCP_NODELAY, on},
              {IPPROTO_TCP, TCP_USER_TIMEOUT, silence_ms},  // also bounds the unanswered probes of an idle connection
              {SOL_SOCKET, SO_KEEPALIVE, on},
              {IPPROTO_TCP, TCP_KEEPIDLE, probe_s},
              {IPPROTO_TCP, TCP_KEEPINTVL, probe_s},
          };
  for (const auto& option : options) {
    if (::setsockopt(fd, option.level, option.name, &option.value, sizeof option.value) != 0) {
      return ErrnoToStatus(errno, absl::StrCat("set TCP option ", option.name));
    }
  }
  return absl::OkStatus();
}

absl::Status AllowFullWindow(int fd) {
  const int no_limit = 0;
  if (::setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &no_limit, sizeof no_limit) == 0) return absl::OkStatus();
  return ErrnoToStatus(errno, "set TCP_USER_TIMEOUT");
}

void ShutDown(UniqueFd* fd) {
  if (!fd->valid()) return;
  ::shutdown(fd->get(), SHUT_RDWR);
  fd->Reset();
}

}  // namespace muster
