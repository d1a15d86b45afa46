// One end of the socket between an agent and muster-pmix: frames (runtime/base/frame.h), each one message.
#ifndef MUSTER_LAUNCHER_MPI_FRAME_LINK_H_
#define MUSTER_LAUNCHER_MPI_FRAME_LINK_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"
#include "runtime/base/frame.h"

namespace muster {

inline constexpr size_t kMpiFrameBytesMax = 40 << 20;  // what all nodes gave to one gather, and some more

// Belongs to the loop's thread, where the callbacks come too; they may destroy it.
class FrameLink {
 public:
  struct Callbacks {
    std::function<void(std::string bytes)> message;
    std::function<void(absl::Status why)> closed;  // once: the other end has gone, or has sent no frame
  };
  // `socket` is a Unix stream socket.
  static absl::StatusOr<std::unique_ptr<FrameLink>> Create(EventLoop* loop, UniqueFd socket, Callbacks callbacks);
  ~FrameLink();

  // In order, never blocking; does nothing once it is closed.
  void Send(absl::string_view bytes);
  // Takes what has come, from inside the call.
  void ReadNow();

 private:
  FrameLink(EventLoop* loop, UniqueFd socket, Callbacks callbacks)
      : loop_(loop), socket_(std::move(socket)), callbacks_(std::move(callbacks)) {}
  void OnReady(uint32_t events);
  void Close(absl::Status why);

  EventLoop* const loop_;
  UniqueFd socket_;
  Callbacks callbacks_;
  FrameReader reader_{kMpiFrameBytesMax};
  FrameWriter writer_{2 * kMpiFrameBytesMax, kMpiFrameBytesMax};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_MPI_FRAME_LINK_H_
