#include "launcher/process/launch_link.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>

#include <optional>
#include <utility>

#include "runtime/base/status.h"

namespace muster {

absl::StatusOr<std::unique_ptr<LaunchLink>> LaunchLink::Create(EventLoop* loop, UniqueFd socket, Callbacks callbacks) {
  const int flags = ::fcntl(socket.get(), F_GETFL);
  if (flags < 0 || ::fcntl(socket.get(), F_SETFL, flags | O_NONBLOCK) != 0 || ::fcntl(socket.get(), F_SETFD, FD_CLOEXEC) != 0) {
    return ErrnoToStatus(errno, "the socket between command and coordinator");
  }
  std::unique_ptr<LaunchLink> link(new LaunchLink(loop, std::move(socket), std::move(callbacks)));
  MUSTER_RETURN_IF_ERROR(
      loop->Add(link->socket_.get(), EPOLLIN, [link = link.get()](uint32_t events) { link->OnReady(events); }));
  return link;
}

LaunchLink::~LaunchLink() {
  *alive_ = false;
  if (socket_) loop_->Remove(socket_.get());
}

void LaunchLink::Send(const google::protobuf::MessageLite& message) {
  if (!socket_) return;
  if (const absl::Status sent = writer_.Send(socket_.get(), message.SerializeAsString()); !sent.ok()) return Close(sent);
  Settle();
}

void LaunchLink::WhenSent(std::function<void()> done) {
  when_sent_.push_back(std::move(done));
  Settle();
}

// Listens for room exactly while something is queued, and tells those who wait for the end of it.
void LaunchLink::Settle() {
  const bool idle = !socket_ || writer_.idle();
  if (socket_) (void)loop_->Modify(socket_.get(), idle ? EPOLLIN : EPOLLIN | EPOLLOUT);
  if (!idle) return;
  for (auto& done : std::exchange(when_sent_, {})) loop_->Post(std::move(done));
}

void LaunchLink::OnReady(uint32_t events) {
  const std::shared_ptr<bool> alive = alive_;  // a callback may destroy this object
  if ((events & EPOLLOUT) != 0) {
    if (const absl::Status sent = writer_.Flush(socket_.get()); !sent.ok()) return Close(sent);
    Settle();
  }
  while (*alive && socket_) {
    absl::StatusOr<std::optional<Frame>> frame = reader_.Read(socket_.get());
    if (!frame.ok()) return Close(frame.status());
    if (!frame->has_value()) return;
    callbacks_.message(std::move((*frame)->bytes));
  }
}

void LaunchLink::Close(absl::Status why) {
  loop_->Remove(socket_.get());
  socket_.Reset();
  Settle();
  loop_->Post([this, alive = alive_, why = std::move(why)] {
    if (*alive) callbacks_.closed(why);
  });
}

}  // namespace muster
