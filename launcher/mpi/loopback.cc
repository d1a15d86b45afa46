#include "launcher/mpi/loopback.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr int kBacklog = 1024;  // more than a node has ranks

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

void SendAtOnce(int socket) {
  const int on = 1;
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

// The one socket from `peer` to `own`. Unimplemented where the kernel cannot be asked so. NotFound where nobody holds that socket any
// more: who has closed it may have been anybody, and the kernel then says 0, which would be root.
absl::StatusOr<uid_t> AskDiagnostics(const sockaddr_in& peer, const sockaddr_in& own) {
  const UniqueFd socket(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!socket) return absl::UnimplementedError("no sock_diag");
  struct {
    nlmsghdr header;
    inet_diag_req_v2 request;
  } question = {};
  question.header.nlmsg_len = sizeof question;
  question.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  question.header.nlmsg_flags = NLM_F_REQUEST;
  question.request.sdiag_family = AF_INET;
  question.request.sdiag_protocol = IPPROTO_TCP;
  question.request.idiag_states = ~0u;
  question.request.id.idiag_sport = peer.sin_port;
  question.request.id.idiag_dport = own.sin_port;
  question.request.id.idiag_src[0] = peer.sin_addr.s_addr;
  question.request.id.idiag_dst[0] = own.sin_addr.s_addr;
  question.request.id.idiag_cookie[0] = question.request.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  if (::send(socket.get(), &question, sizeof question, 0) != static_cast<ssize_t>(sizeof question)) {
    return absl::UnimplementedError("no sock_diag");
  }
  // The kernel answers within send(2).
  alignas(nlmsghdr) char buffer[4096];
  const ssize_t bytes = ::recv(socket.get(), buffer, sizeof buffer, MSG_DONTWAIT);
  if (bytes < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(nlmsgerr)))) return absl::UnimplementedError("no answer of sock_diag");
  nlmsghdr header;
  memcpy(&header, buffer, sizeof header);
  if (header.nlmsg_type == NLMSG_ERROR) {
    nlmsgerr refusal;
    memcpy(&refusal, buffer + NLMSG_HDRLEN, sizeof refusal);
    // Anything else (no such module, no right to ask) says nothing of the socket.
    if (refusal.error == -ENOENT) return absl::NotFoundError("its other end is closed");
  }
  if (header.nlmsg_type != SOCK_DIAG_BY_FAMILY || bytes < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(inet_diag_msg)))) {
    return absl::UnimplementedError("no answer of sock_diag");
  }
  inet_diag_msg answer;
  memcpy(&answer, buffer + NLMSG_HDRLEN, sizeof answer);
  if (answer.idiag_inode == 0) return absl::NotFoundError("its other end is closed");
  return answer.idiag_uid;
}

absl::StatusOr<uid_t> LookInProc(const sockaddr_in& peer, const sockaddr_in& own) {
  std::ifstream table("/proc/net/tcp");
  std::string line;
  while (std::getline(table, line)) {
    unsigned local = 0, local_port = 0, remote = 0, remote_port = 0, uid = 0;
    unsigned long inode = 0;
    const int read = sscanf(line.c_str(), " %*d: %8X:%4X %8X:%4X %*X %*X:%*X %*X:%*X %*X %u %*d %lu", &local, &local_port,
                            &remote, &remote_port, &uid, &inode);
    if (read == 6 && inode != 0 && local == peer.sin_addr.s_addr && local_port == ntohs(peer.sin_port) &&
        remote == own.sin_addr.s_addr && remote_port == ntohs(own.sin_port)) {
      return uid;
    }
  }
  return absl::NotFoundError("its other end is closed");
}

}  // namespace

absl::StatusOr<LoopbackListener> ListenOnLoopback() {
  LoopbackListener listener;
  listener.socket.Reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.socket) return ErrnoToStatus(errno, "a socket on 127.0.0.1");
  sockaddr_in address = Loopback(0);
  socklen_t length = sizeof address;
  if (::bind(listener.socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener.socket.get(), kBacklog) != 0 ||
      ::getsockname(listener.socket.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return ErrnoToStatus(errno, "listen on 127.0.0.1 (is the loopback interface up?)");
  }
  listener.port = ntohs(address.sin_port);
  return listener;
}

absl::StatusOr<UniqueFd> ConnectOnLoopback(uint16_t port) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return ErrnoToStatus(errno, "a socket on 127.0.0.1");
  const sockaddr_in address = Loopback(port);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 && errno != EINPROGRESS) {
    return ErrnoToStatus(errno, absl::StrCat("connect to 127.0.0.1:", port));
  }
  SendAtOnce(socket.get());
  return socket;
}

absl::StatusOr<UniqueFd> AcceptOwn(int listener) {
  UniqueFd connected(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!connected) {
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return absl::UnavailableError("no connection waits");
    return ErrnoToStatus(errno, "accept on 127.0.0.1");
  }
  const auto user = PeerUser(connected.get());
  if (!user.ok()) return absl::PermissionDeniedError(absl::StrCat("a connection of nobody: ", user.status().message()));
  if (*user != ::geteuid() && *user != 0) return absl::PermissionDeniedError(absl::StrCat("a connection of user ", *user));
  SendAtOnce(connected.get());
  return connected;
}

absl::StatusOr<uid_t> PeerUser(int connected) {
  sockaddr_in own = {}, peer = {};
  socklen_t own_length = sizeof own, peer_length = sizeof peer;
  if (::getsockname(connected, reinterpret_cast<sockaddr*>(&own), &own_length) != 0 ||
      ::getpeername(connected, reinterpret_cast<sockaddr*>(&peer), &peer_length) != 0) {
    return ErrnoToStatus(errno, "the ends of a connection");
  }
  const auto user = AskDiagnostics(peer, own);
  return absl::IsUnimplemented(user.status()) ? LookInProc(peer, own) : user;
}

}  // namespace muster
