#include "launcher/mpi/loopback_door.h"

#include <sys/epoll.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/mpi/loopback.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr absl::Duration kPause = absl::Milliseconds(100);

}  // namespace

absl::StatusOr<std::unique_ptr<LoopbackDoor>> LoopbackDoor::Open(EventLoop* loop, int listener, std::string place,
                                                                 Callbacks callbacks) {
  std::unique_ptr<LoopbackDoor> door(new LoopbackDoor(loop, listener, std::move(place), std::move(callbacks)));
  MUSTER_RETURN_IF_ERROR(door->Watch());
  return door;
}

LoopbackDoor::~LoopbackDoor() {
  if (pause_) loop_->Cancel(*pause_);
  loop_->Remove(listener_);
  if (refusals_ > kRefusalsLogged)
    callbacks_.log(absl::StrCat("turned away ", refusals_, " connections from ", place_, " in all"));
}

absl::Status LoopbackDoor::Watch() {
  return loop_->Add(listener_, EPOLLIN, [this](uint32_t) { Accept(); });
}

void LoopbackDoor::Accept() {
  auto client = AcceptOwn(listener_);
  if (client.ok()) {
    out_of_descriptors_ = false;
    callbacks_.taken(*std::move(client));
  } else if (absl::IsPermissionDenied(client.status())) {
    Refuse(client.status().message());
  } else if (!absl::IsUnavailable(client.status())) {
    // The connection still waits, so the loop would call us again at once.
    if (!std::exchange(out_of_descriptors_, true))
      callbacks_.log(absl::StrCat("connections to ", place_, " wait: ", client.status().message()));
    Pause();
  }
}

void LoopbackDoor::Pause() {
  loop_->Remove(listener_);
  pause_ = loop_->After(kPause, [this] {
    pause_.reset();
    if (!Watch().ok()) Pause();
  });
}

void LoopbackDoor::Refuse(absl::string_view why) {
  if (++refusals_ <= kRefusalsLogged) callbacks_.log(absl::StrCat("turned away from ", place_, ": ", why));
}

}  // namespace muster
