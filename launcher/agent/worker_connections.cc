#include "launcher/agent/worker_connections.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr int kBacklog = 512;
constexpr size_t kQueuedBytesMax = 1 << 20;
constexpr size_t kUnsettledMax = 2 * v1::kLocalRanksMax;
constexpr absl::Duration kSettleTimeout = absl::Seconds(10);
constexpr absl::Duration kAcceptPause = absl::Milliseconds(100);
constexpr int64_t kRefusalsLogged = 20;
constexpr size_t kReasonBytesMax = 1000;  // worker.options

absl::StatusOr<std::string> FreshName() {
  char random[16];
  if (::getrandom(random, sizeof random, 0) != sizeof random) return ErrnoToStatus(errno, "getrandom");
  return absl::StrCat("muster-", absl::BytesToHexString(absl::string_view(random, sizeof random)));
}

absl::StatusOr<UniqueFd> ListenOn(const std::string& name) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return ErrnoToStatus(errno, "socket");
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data(), name.size());  // abstract: a leading zero byte, gone with its last descriptor
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0) return ErrnoToStatus(errno, "bind");
  if (::listen(socket.get(), kBacklog) != 0) return ErrnoToStatus(errno, "listen");
  return socket;
}

}  // namespace

WorkerConnections::Connection::Connection(UniqueFd socket) : socket(std::move(socket)), writer(kQueuedBytesMax) {}

absl::StatusOr<std::unique_ptr<WorkerConnections>> WorkerConnections::Listen(EventLoop* loop, Handlers handlers) {
  MUSTER_ASSIGN_OR_RETURN(std::string name, FreshName());
  auto listener = ListenOn(name);
  if (!listener.ok()) return Annotate(listener.status(), "the agent's socket for workers");
  std::unique_ptr<WorkerConnections> connections(
      new WorkerConnections(loop, std::move(handlers), std::move(name), *std::move(listener)));
  MUSTER_RETURN_IF_ERROR(connections->StartAccepting());
  return connections;
}

WorkerConnections::WorkerConnections(EventLoop* loop, Handlers handlers, std::string name, UniqueFd listener)
    : loop_(loop), handlers_(std::move(handlers)), name_(std::move(name)), listener_(std::move(listener)) {}

WorkerConnections::~WorkerConnections() {
  if (accept_timer_.has_value()) loop_->Cancel(*accept_timer_);
  loop_->Remove(listener_.get());
  while (!connections_.empty()) Close(connections_.begin()->first);
  if (refusals_ > kRefusalsLogged)
    Log(LogLevel::kWarning, absl::StrCat("refused ", refusals_, " connections to the agent in all"));
}

absl::Status WorkerConnections::StartAccepting() {
  return loop_->Add(listener_.get(), EPOLLIN, [this](uint32_t) { Accept(); });
}

void WorkerConnections::Accept() {
  while (true) {
    UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket) {
      Admit(std::move(socket));
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      Log(LogLevel::kWarning, ErrnoToStatus(errno, "accept a worker's connection; trying again in 100 ms").message());
      return PauseAccepting();
    } else if (errno != EINTR && errno != ECONNABORTED) {
      return;
    }
  }
}

void WorkerConnections::PauseAccepting() {
  loop_->Remove(listener_.get());
  accept_timer_ = loop_->After(kAcceptPause, [this] {
    accept_timer_.reset();
    const absl::Status started = StartAccepting();
    if (!started.ok()) PauseAccepting();
  });
}

void WorkerConnections::Admit(UniqueFd socket) {
  const auto peer = IdentifyPeer(socket.get());
  if (!peer.ok() || peer->uid != ::geteuid()) {
    return CountRefusal(peer.ok() ? peer->pid : 0, "a process of another user");
  }
  if (unsettled_ >= kUnsettledMax) return CountRefusal(peer->pid, "too many connections that have not said who they are");
  const Id id = next_id_++;
  const int fd = socket.get();
  auto connection = std::make_unique<Connection>(std::move(socket));
  connection->peer = *peer;
  const absl::Status added = loop_->Add(fd, EPOLLIN, [this, id](uint32_t ready) { Serve(id, ready); });
  if (!added.ok()) return CountRefusal(peer->pid, added.message());
  connection->settle_timer = loop_->After(kSettleTimeout, [this, id] {
    connections_.at(id)->settle_timer.reset();
    --unsettled_;
    Refuse(id, absl::DeadlineExceededError("no Hello of a worker that is expected here came within 10 s"));
  });
  ++unsettled_;
  connections_.emplace(id, std::move(connection));
}

void WorkerConnections::Serve(Id id, uint32_t ready) {
  if ((ready & EPOLLOUT) != 0) {
    Connection& connection = *connections_.at(id);
    const absl::Status flushed = connection.writer.Flush(connection.socket.get());
    if (!flushed.ok()) return Fail(id, flushed);
    if (connection.writer.idle()) {
      connection.waits_to_write = false;
      loop_->Modify(connection.socket.get(), EPOLLIN).IgnoreError();
    }
  }
  if ((ready & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) ReadFrames(id);
}

void WorkerConnections::ReadFrames(Id id) {
  while (true) {
    const auto found = connections_.find(id);  // the handler may have ended it
    if (found == connections_.end()) return;
    auto frame = found->second->reader.Read(found->second->socket.get());
    if (!frame.ok()) return Fail(id, frame.status());
    if (!frame->has_value()) return;
    const absl::Status handled = handlers_.frame(id, std::move(**frame));
    if (!handled.ok()) {
      Refuse(id, handled);
      return;
    }
  }
}

const PeerIdentity& WorkerConnections::PeerOf(Id id) const { return connections_.at(id)->peer; }

void WorkerConnections::Settle(Id id) {
  Connection& connection = *connections_.at(id);
  if (!connection.settle_timer.has_value()) return;
  loop_->Cancel(*connection.settle_timer);
  connection.settle_timer.reset();
  --unsettled_;
}

void WorkerConnections::Send(Id id, const v1::AgentToWorker& message, const std::vector<int>& fds) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  Connection& connection = *found->second;
  const absl::Status sent = connection.writer.Send(connection.socket.get(), message.SerializeAsString(), fds);
  if (!sent.ok()) return Fail(id, sent);
  if (connection.writer.idle() || connection.waits_to_write) return;
  connection.waits_to_write = true;
  loop_->Modify(connection.socket.get(), EPOLLIN | EPOLLOUT).IgnoreError();
}

void WorkerConnections::Refuse(Id id, const absl::Status& reason) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  v1::AgentToWorker message;
  message.mutable_refused()->set_message(std::string(reason.message().substr(0, kReasonBytesMax)));
  message.mutable_refused()->set_code(static_cast<uint32_t>(reason.code()));
  // One frame fits into an empty socket; where it is not empty the peer is not one that waits for an answer.
  found->second->writer.Send(found->second->socket.get(), message.SerializeAsString()).IgnoreError();
  CountRefusal(found->second->peer.pid, reason.message());
  Close(id);
}

// The peer has closed, or cannot be talked to any more.
void WorkerConnections::Fail(Id id, const absl::Status& error) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  if (absl::IsInvalidArgument(error)) CountRefusal(found->second->peer.pid, error.message());
  Close(id);
  handlers_.closed(id);
}

void WorkerConnections::Close(Id id) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  Settle(id);
  loop_->Remove(found->second->socket.get());
  connections_.erase(found);
}

void WorkerConnections::CountRefusal(pid_t pid, absl::string_view reason) {
  if (handlers_.refused) handlers_.refused(pid, reason);
  if (++refusals_ > kRefusalsLogged) return;
  Log(LogLevel::kWarning, absl::StrCat("refused a connection of process ", pid, " to the agent: ", reason));
}

}  // namespace muster
