#include "launcher/pmix/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/mpi/loopback.h"
#include "runtime/base/status.h"

namespace muster {

absl::StatusOr<std::unique_ptr<Relay>> Relay::Create(EventLoop* loop, UniqueFd listener, uint16_t port,
                                                     std::function<void(const std::string& line)> log) {
  const int flags = ::fcntl(listener.get(), F_GETFL);
  if (flags < 0 || ::fcntl(listener.get(), F_SETFL, flags | O_NONBLOCK) != 0)
    return ErrnoToStatus(errno, "the listening socket");
  std::unique_ptr<Relay> relay(new Relay(loop, std::move(listener), port, std::move(log)));
  LoopbackDoor::Callbacks callbacks;
  callbacks.taken = [relay = relay.get()](UniqueFd client) { relay->Take(std::move(client)); };
  callbacks.log = relay->log_;
  MUSTER_ASSIGN_OR_RETURN(relay->door_,
                          LoopbackDoor::Open(loop, relay->listener_.get(), "the PMIx server", std::move(callbacks)));
  return relay;
}

Relay::~Relay() {
  while (!connections_.empty()) Close(connections_.begin()->first);
}

void Relay::Take(UniqueFd client) {
  if (connections_.size() >= kConnectionsMax) return log_("turned away from the PMIx server: too many connections");
  if (const absl::Status joined = Join(std::move(client)); !joined.ok()) log_(std::string(joined.message()));
}

absl::Status Relay::Join(UniqueFd client) {
  MUSTER_ASSIGN_OR_RETURN(UniqueFd server, ConnectOnLoopback(port_));
  const uint64_t id = ++next_;
  Connection& connection = connections_[id];
  connection.ends[0].socket = std::move(client);
  connection.ends[1].socket = std::move(server);
  for (const int end : {0, 1}) {
    const absl::Status added =
        loop_->Add(connection.ends[end].socket.get(), EPOLLIN, [this, id, end](uint32_t events) { OnReady(id, end, events); });
    if (!added.ok()) {
      Close(id);
      return added;
    }
  }
  return absl::OkStatus();
}

void Relay::OnReady(uint64_t id, int end, uint32_t events) {
  Connection& connection = connections_.at(id);
  if ((events & EPOLLOUT) != 0 && !Write(connection.ends[end])) return Close(id);
  if ((events & ~static_cast<uint32_t>(EPOLLOUT)) != 0 && !Move(connection, end)) return Close(id);
  // What one end has sent before it went still reaches the other; then both are closed.
  for (const int from : {0, 1}) {
    if (connection.ends[from].at_end && connection.ends[1 - from].held.empty()) return Close(id);
  }
  Watch(connection);
}

// From one end to the other, one buffer at a time. False: the connection is broken.
bool Relay::Move(Connection& connection, int from) {
  End& source = connection.ends[from];
  End& sink = connection.ends[1 - from];
  if (source.at_end || !sink.held.empty()) return true;
  char buffer[kBytesMax];
  const ssize_t bytes = ::recv(source.socket.get(), buffer, sizeof buffer, MSG_DONTWAIT);
  if (bytes < 0) return errno == EAGAIN || errno == EINTR;
  if (bytes == 0) {
    source.at_end = true;
    return true;
  }
  sink.held.assign(buffer, static_cast<size_t>(bytes));
  return Write(sink);
}

bool Relay::Write(End& end) {
  while (!end.held.empty()) {
    const ssize_t bytes = ::send(end.socket.get(), end.held.data(), end.held.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    // ENOTCONN: to the server, who takes it as soon as it is connected.
    if (bytes < 0) return errno == EAGAIN || errno == EINTR || errno == ENOTCONN;
    end.held.erase(0, static_cast<size_t>(bytes));
  }
  return true;
}

// An end is read only while what it sends has room at the other.
void Relay::Watch(Connection& connection) {
  for (const int end : {0, 1}) {
    const bool read = !connection.ends[end].at_end && connection.ends[1 - end].held.empty();
    const bool write = !connection.ends[end].held.empty();
    (void)loop_->Modify(connection.ends[end].socket.get(), (read ? EPOLLIN : 0u) | (write ? EPOLLOUT : 0u));
  }
}

void Relay::Close(uint64_t id) {
  for (const End& end : connections_.at(id).ends) {
    if (end.socket) loop_->Remove(end.socket.get());
  }
  connections_.erase(id);
}

}  // namespace muster
