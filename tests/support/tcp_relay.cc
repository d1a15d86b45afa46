#include "tests/support/tcp_relay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/log.h"

namespace muster::test {
namespace {

constexpr size_t kPendingMax = 64 << 10;

sockaddr_in Local(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

void Hurry(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

}  // namespace

TcpRelay::TcpRelay(EventLoop* loop, uint16_t to)
    : loop_(loop), to_(to), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
  sockaddr_in address = Local(0);
  socklen_t bytes = sizeof address;
  MUSTER_CHECK(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), bytes) == 0, "bind");
  MUSTER_CHECK(::listen(listener_.get(), 128) == 0, "listen");
  MUSTER_CHECK(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &bytes) == 0, "getsockname");
  port_ = ntohs(address.sin_port);
  MUSTER_CHECK(loop_->Add(listener_.get(), EPOLLIN, [this](uint32_t) { Accept(); }).ok(), "add");
}

TcpRelay::~TcpRelay() {
  CutAll();
  loop_->Remove(listener_.get());
}

std::string TcpRelay::address() const { return absl::StrCat("127.0.0.1:", port_); }

void TcpRelay::Accept() {
  UniqueFd near(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!near || unplugged_) return;
  UniqueFd far(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = Local(to_);
  // Blocking: the backlog of a listener on this machine takes it at once.
  if (::connect(far.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return;
  Hurry(near.get());
  Hurry(far.get());
  ++connections_;
  const uint64_t id = next_id_++;
  Pair& pair = pairs_[id];
  pair.bytes_left = bytes_until_cut ? bytes_until_cut() : -1;
  pair.sides[0].fd = std::move(near);
  pair.sides[1].fd = std::move(far);
  for (int side = 0; side < 2; ++side) {
    MUSTER_CHECK(
        loop_->Add(pair.sides[side].fd.get(), EPOLLIN, [this, id, side](uint32_t events) { OnEvent(id, side, events); }).ok(),
        "add");
  }
}

void TcpRelay::OnEvent(uint64_t id, int side, uint32_t events) {
  const auto found = pairs_.find(id);
  if (found == pairs_.end()) return;
  Pair* const pair = &found->second;
  if ((events & EPOLLOUT) != 0) {
    Side& to = pair->sides[side];
    const ssize_t sent = ::send(to.fd.get(), to.pending.data(), to.pending.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN) return Cut(id);
    if (sent > 0) to.pending.erase(0, static_cast<size_t>(sent));
  }
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && !Pump(pair, side)) return Cut(id);
  Watch(pair);
}

// False when the pair is over: an end closed, or its bytes are used up.
bool TcpRelay::Pump(Pair* pair, int from) {
  Side& to = pair->sides[1 - from];
  char buffer[16 << 10];
  const ssize_t count = ::recv(pair->sides[from].fd.get(), buffer, sizeof buffer, MSG_DONTWAIT);
  if (count < 0) return errno == EAGAIN;
  if (count == 0) return false;
  size_t forward = static_cast<size_t>(count);
  bool over = false;
  if (pair->bytes_left >= 0) {
    over = count >= pair->bytes_left;
    forward = std::min<size_t>(forward, static_cast<size_t>(pair->bytes_left));
    pair->bytes_left -= static_cast<int64_t>(forward);
  }
  to.pending.append(buffer, forward);
  const ssize_t sent = ::send(to.fd.get(), to.pending.data(), to.pending.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent > 0) to.pending.erase(0, static_cast<size_t>(sent));
  if (over) ++cuts_;
  return !over;
}

void TcpRelay::Watch(Pair* pair) {
  for (int side = 0; side < 2; ++side) {
    uint32_t events = 0;
    if (pair->sides[1 - side].pending.size() < kPendingMax) events |= EPOLLIN;
    if (!pair->sides[side].pending.empty()) events |= EPOLLOUT;
    loop_->Modify(pair->sides[side].fd.get(), events).IgnoreError();
  }
}

void TcpRelay::Cut(uint64_t id) {
  const auto pair = pairs_.extract(id);
  for (const Side& side : pair.mapped().sides) loop_->Remove(side.fd.get());
}

void TcpRelay::CutAll() {
  while (!pairs_.empty()) {
    ++cuts_;
    Cut(pairs_.begin()->first);
  }
}

void TcpRelay::FreezeAll() {
  for (auto& [id, pair] : pairs_) {
    for (const Side& side : pair.sides) loop_->Remove(side.fd.get());
  }
}

}  // namespace muster::test
