#include "launcher/mpi/frame_link.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>

#include <optional>

#include "runtime/base/status.h"

namespace muster {

absl::StatusOr<std::unique_ptr<FrameLink>> FrameLink::Create(EventLoop* loop, UniqueFd socket, Callbacks callbacks) {
  const int flags = ::fcntl(socket.get(), F_GETFL);
  if (flags < 0 || ::fcntl(socket.get(), F_SETFL, flags | O_NONBLOCK) != 0 || ::fcntl(socket.get(), F_SETFD, FD_CLOEXEC) != 0) {
    return ErrnoToStatus(errno, "the socket between agent and muster-pmix");
  }
  std::unique_ptr<FrameLink> link(new FrameLink(loop, std::move(socket), std::move(callbacks)));
  MUSTER_RETURN_IF_ERROR(
      loop->Add(link->socket_.get(), EPOLLIN, [link = link.get()](uint32_t events) { link->OnReady(events); }));
  return link;
}

FrameLink::~FrameLink() {
  *alive_ = false;
  if (socket_) loop_->Remove(socket_.get());
}

void FrameLink::Send(absl::string_view bytes) {
  if (!socket_) return;
  if (const absl::Status sent = writer_.Send(socket_.get(), bytes); !sent.ok()) {
    loop_->Post([this, alive = alive_, sent] {
      if (*alive) Close(sent);
    });
    return;
  }
  (void)loop_->Modify(socket_.get(), writer_.idle() ? EPOLLIN : EPOLLIN | EPOLLOUT);
}

void FrameLink::OnReady(uint32_t events) {
  if ((events & EPOLLOUT) != 0) {
    if (const absl::Status sent = writer_.Flush(socket_.get()); !sent.ok()) return Close(sent);
    (void)loop_->Modify(socket_.get(), writer_.idle() ? EPOLLIN : EPOLLIN | EPOLLOUT);
  }
  ReadNow();
}

void FrameLink::ReadNow() {
  const std::shared_ptr<bool> alive = alive_;
  while (*alive && socket_) {
    absl::StatusOr<std::optional<Frame>> frame = reader_.Read(socket_.get());
    if (!frame.ok()) return Close(frame.status());
    if (!frame->has_value()) return;
    callbacks_.message(std::move((*frame)->bytes));
  }
}

void FrameLink::Close(absl::Status why) {
  if (!socket_) return;
  loop_->Remove(socket_.get());
  socket_.Reset();
  callbacks_.closed(std::move(why));
}

}  // namespace muster
