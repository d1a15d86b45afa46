#include "launcher/channel/front_door.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "launcher/channel/coordinator_search.h"
#include "launcher/channel/join_key.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

static_assert(kSearchGreeting.size() == kOpeningBytes && kJoinGreeting.size() == kOpeningBytes, "one look decides");

constexpr int kBacklog = 1024;
constexpr char kTlsHandshakeRecord = 22;
constexpr char kClosed[] = "a connection closed without a word";
constexpr absl::Duration kRest = absl::Milliseconds(100);

struct Address {
  sockaddr_storage storage = {};
  socklen_t bytes = sizeof(sockaddr_storage);
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

absl::StatusOr<Address> ParseAddress(const std::string& text, uint16_t port) {
  Address address;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  if (::inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    address.bytes = sizeof *v4;
    return address;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (::inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    address.bytes = sizeof *v6;
    return address;
  }
  return absl::InvalidArgumentError(absl::StrCat("cannot listen on \"", text, "\": not a numeric IPv4 or IPv6 address"));
}

uint16_t PortOf(const Address& address) {
  return ntohs(address.storage.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_port
                                                     : reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_port);
}

// "10.0.0.1:4242", "[::1]:4242"; an IPv4 address in IPv6's clothes without them, as gRPC prints it.
std::string TextOfAddress(const Address& address) {
  char text[INET6_ADDRSTRLEN] = "?";
  if (address.storage.ss_family == AF_INET) {
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr, text, sizeof text);
    return absl::StrCat(text, ":", PortOf(address));
  }
  const in6_addr& v6 = reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr;
  if (IN6_IS_ADDR_V4MAPPED(&v6)) {
    ::inet_ntop(AF_INET, &v6.s6_addr[12], text, sizeof text);
    return absl::StrCat(text, ":", PortOf(address));
  }
  ::inet_ntop(AF_INET6, &v6, text, sizeof text);
  return absl::StrCat("[", text, "]:", PortOf(address));
}

}  // namespace

Opening OpeningOf(absl::string_view bytes) {
  // A TLSPlaintext record: type handshake (22), version 3.x, length (2), then HandshakeType client_hello (1).
  constexpr unsigned char kClientHello = 1;
  const auto at = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  if (bytes.empty()) return Opening::kUndecided;
  const bool may_be_tls = at(0) == kTlsHandshakeRecord && (bytes.size() < 2 || at(1) == 3) &&
                          (bytes.size() < kOpeningBytes || at(5) == kClientHello);
  if (may_be_tls) return bytes.size() < kOpeningBytes ? Opening::kUndecided : Opening::kTls;
  if (absl::StartsWith(kSearchGreeting, bytes.substr(0, kOpeningBytes))) {
    return bytes.size() < kSearchGreeting.size() ? Opening::kUndecided : Opening::kSearch;
  }
  if (absl::StartsWith(kJoinGreeting, bytes.substr(0, kOpeningBytes))) {
    return bytes.size() < kJoinGreeting.size() ? Opening::kUndecided : Opening::kJoin;
  }
  for (absl::string_view method : {"GET ", "HEAD ", "POST ", "PUT ", "PRI * ", "OPTIONS ", "DELETE ", "CONNECT ", "PATCH "}) {
    const absl::string_view begin = method.substr(0, kOpeningBytes);
    if (bytes.size() < begin.size() && absl::StartsWith(begin, bytes)) return Opening::kUndecided;
    if (absl::StartsWith(bytes, begin)) return Opening::kHttp;
  }
  return Opening::kPlainText;
}

absl::StatusOr<std::unique_ptr<FrontDoor>> FrontDoor::Listen(EventLoop* loop, const std::string& address_text, uint16_t port,
                                                             absl::Duration first_bytes_within, Events events) {
  MUSTER_ASSIGN_OR_RETURN(Address address, ParseAddress(address_text, port));
  const std::string where = absl::StrCat(address_text, " port ", port);
  UniqueFd listener(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!listener) return ErrnoToStatus(errno, absl::StrCat("socket for ", where));
  const int on = 1, off = 0;
  // A coordinator that is started again takes its port while connections of the last are still in TIME_WAIT.
  ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (address.storage.ss_family == AF_INET6) ::setsockopt(listener.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (::bind(listener.get(), address.get(), address.bytes) != 0) {
    // What somebody has asked for, not a defect.
    if (errno == EADDRNOTAVAIL || errno == EADDRINUSE || errno == EACCES) {
      return absl::InvalidArgumentError(absl::StrCat("cannot listen on ", where, ": ",
                                                     errno == EADDRNOTAVAIL ? "this machine has no such address"
                                                     : errno == EADDRINUSE  ? "the port is taken"
                                                                            : "ports below 1024 take root"));
    }
    return ErrnoToStatus(errno, absl::StrCat("bind to ", where));
  }
  if (::listen(listener.get(), kBacklog) != 0) return ErrnoToStatus(errno, absl::StrCat("listen on ", where));
  address.bytes = sizeof address.storage;
  if (::getsockname(listener.get(), address.get(), &address.bytes) != 0) return ErrnoToStatus(errno, "getsockname");
  std::unique_ptr<FrontDoor> door(
      new FrontDoor(loop, std::move(listener), PortOf(address), first_bytes_within, std::move(events)));
  FrontDoor* const raw = door.get();
  MUSTER_RETURN_IF_ERROR(loop->Add(door->listener_.get(), EPOLLIN, [raw](uint32_t) { raw->Accept(); }));
  return door;
}

FrontDoor::FrontDoor(EventLoop* loop, UniqueFd listener, uint16_t port, absl::Duration first_bytes_within, Events events)
    : loop_(loop),
      listener_(std::move(listener)),
      port_(port),
      first_bytes_within_(first_bytes_within),
      events_(std::move(events)) {}

FrontDoor::~FrontDoor() {
  loop_->Remove(listener_.get());
  if (resting_) loop_->Cancel(rest_timer_);
  while (!oldest_first_.empty()) Take(oldest_first_.front());
}

void FrontDoor::Pause(bool paused) {
  paused_ = paused;
  loop_->Modify(listener_.get(), paused_ || resting_ ? 0u : uint32_t{EPOLLIN}).IgnoreError();
}

void FrontDoor::Rest() {
  resting_ = true;
  Pause(paused_);
  rest_timer_ = loop_->After(kRest, [this] {
    resting_ = false;
    Pause(paused_);
  });
}

void FrontDoor::Accept() {
  while (!paused_) {
    Address peer;
    UniqueFd connection(::accept4(listener_.get(), peer.get(), &peer.bytes, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!connection) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        if (!std::exchange(warned_, true)) {
          events_.warn(absl::StrCat("cannot accept connections of agents for now: ", ErrnoToStatus(errno, "accept").message(),
                                    "; raise the limit of open files (ulimit -n)"));
        }
        return Rest();
      }
      if (errno == EAGAIN || errno == EWOULDBLOCK) return;
      continue;  // that connection is gone already (accept(2): treat network errors like EAGAIN)
    }
    warned_ = false;
    const int on = 1;
    ::setsockopt(connection.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    Wait(std::move(connection), TextOfAddress(peer));
  }
}

void FrontDoor::Wait(UniqueFd connection, std::string from) {
  if (silent_.size() >= kSilentMax) Look(oldest_first_.front(), "silence, when too many were silent");
  const int fd = connection.get();
  const absl::Status added = loop_->Add(fd, EPOLLIN | EPOLLRDHUP, [this, fd](uint32_t ready) {
    Look(fd, (ready & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0 ? kClosed : nullptr);
  });
  if (!added.ok()) return events_.refuse(absl::StrCat("no room: ", added.message()), from);
  const EventLoop::TimerId timer = loop_->After(first_bytes_within_, [this, fd] { Look(fd, "silence"); });
  silent_[fd] = {.connection = std::move(connection), .from = std::move(from), .timer = timer};
  oldest_first_.push_back(fd);
  Look(fd, nullptr);  // it may have spoken already
}

FrontDoor::Silent FrontDoor::Take(int fd) {
  const auto found = silent_.find(fd);
  Silent silent = std::move(found->second);
  silent_.erase(found);
  oldest_first_.remove(fd);
  loop_->Cancel(silent.timer);
  loop_->Remove(fd);
  return silent;
}

void FrontDoor::Look(int fd, const char* if_silent) {
  char bytes[kJoinRequestBytes];
  const ssize_t count = ::recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
  const bool nothing_yet = count < 0 && (errno == EAGAIN || errno == EINTR);
  if (nothing_yet && if_silent == nullptr) return;
  const Opening opening = count > 0 ? OpeningOf(absl::string_view(bytes, static_cast<size_t>(count))) : Opening::kUndecided;
  if (count > 0 && opening == Opening::kUndecided && if_silent == nullptr) {
    // Woken again when all of it is there, not for each byte, and not at once for those that are: socket(7), SO_RCVLOWAT.
    const int enough = kOpeningBytes;
    ::setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &enough, sizeof enough);
    return;
  }
  if (opening == Opening::kJoin && count < static_cast<ssize_t>(kJoinRequestBytes) && if_silent == nullptr) {
    const int whole = kJoinRequestBytes;
    ::setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &whole, sizeof whole);
    return;
  }
  Silent known = Take(fd);
  switch (opening) {
    case Opening::kTls: {
      const int one = 1;
      ::setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one);
      return events_.admit(std::move(known.connection), known.from);
    }
    case Opening::kSearch: {
      // What is left unread would make the end a reset, which takes the answer with it.
      [[maybe_unused]] const ssize_t taken = ::recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
      [[maybe_unused]] const ssize_t said =
          ::send(fd, events_.search_answer.data(), events_.search_answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      return;
    }
    case Opening::kJoin: {
      if (!events_.join) return events_.refuse("a request to join by a key, which this job does not take", known.from);
      const ssize_t taken = ::recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
      const std::string answer = events_.join(absl::string_view(bytes, static_cast<size_t>(std::max<ssize_t>(0, taken))), known.from);
      [[maybe_unused]] const ssize_t said = ::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      return;
    }
    case Opening::kHttp:
      return events_.refuse("HTTP without TLS", known.from);
    case Opening::kPlainText:
      return events_.refuse("plain text", known.from);
    case Opening::kUndecided:
      if (count <= 0) return events_.refuse(nothing_yet ? if_silent : kClosed, known.from);
      return events_.refuse(bytes[0] == kTlsHandshakeRecord ? "a TLS greeting cut short" : "plain text", known.from);
  }
}

}  // namespace muster
