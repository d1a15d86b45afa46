// One end of the socket between the command and the coordinator process that it has started: the messages of
// proto/muster/v1/launch.proto in frames (runtime/base/frame.h).
#ifndef MUSTER_LAUNCHER_PROCESS_LAUNCH_LINK_H_
#define MUSTER_LAUNCHER_PROCESS_LAUNCH_LINK_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "google/protobuf/message_lite.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"
#include "runtime/base/frame.h"

namespace muster {

// Agents of this machine end their workers after so long without their coordinator: none will come back for them.
inline constexpr int kLocalOrphanSeconds = 5;

inline constexpr int kLaunchFd = 3;                       // in the coordinator process
inline constexpr int kJobLockFd = 4;                      // the same
inline constexpr size_t kLaunchFrameBytesMax = 16 << 20;  // a command line, a report of many ranks

// Belongs to the loop's thread, where the callbacks come too, never from inside a call to this class.
class LaunchLink {
 public:
  struct Callbacks {
    std::function<void(std::string bytes)> message;  // one CommandMessage or CoordinatorReport
    std::function<void(absl::Status why)> closed;    // once: the other end has gone (Unavailable), or has sent no frame
  };
  // `socket` is a Unix stream socket.
  static absl::StatusOr<std::unique_ptr<LaunchLink>> Create(EventLoop* loop, UniqueFd socket, Callbacks callbacks);
  ~LaunchLink();  // closes the socket; what is queued is lost

  // In order, never blocking. Does nothing once the link is closed.
  void Send(const google::protobuf::MessageLite& message);
  // Calls `done` on the loop when all is sent or the link is closed.
  void WhenSent(std::function<void()> done);

 private:
  LaunchLink(EventLoop* loop, UniqueFd socket, Callbacks callbacks)
      : loop_(loop), socket_(std::move(socket)), callbacks_(std::move(callbacks)) {}
  void OnReady(uint32_t events);
  void Close(absl::Status why);
  void Settle();

  EventLoop* const loop_;
  UniqueFd socket_;
  Callbacks callbacks_;
  FrameReader reader_{kLaunchFrameBytesMax};
  FrameWriter writer_{4 * kLaunchFrameBytesMax, kLaunchFrameBytesMax};
  std::vector<std::function<void()>> when_sent_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_LAUNCH_LINK_H_
