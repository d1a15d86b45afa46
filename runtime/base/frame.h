// Messages with descriptors over a Unix stream socket: the framing of proto/muster/v1/worker.proto.
//
// A frame is a 32-bit little-endian length and that many bytes. Descriptors ride as SCM_RIGHTS on the frame's first byte, so a
// reader that never reads across the end of a frame knows which frame they belong to.
#ifndef MUSTER_RUNTIME_BASE_FRAME_H_
#define MUSTER_RUNTIME_BASE_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/base/fd.h"

namespace muster {

inline constexpr size_t kFrameBytesMax = 64 * 1024;
inline constexpr size_t kFrameFdsMax = 4;

struct Frame {
  std::string bytes;
  std::vector<UniqueFd> fds;  // close-on-exec
};

// Puts frames together from what a peer sends, who may be hostile: memory and descriptors are bounded by one frame. Not
// thread-safe.
class FrameReader {
 public:
  explicit FrameReader(size_t frame_bytes_max = kFrameBytesMax) : frame_bytes_max_(frame_bytes_max) {}

  // The next whole frame; nullopt when the socket has no more for now. Blocks only if the socket does.
  // Errors: Unavailable (the peer has closed; mid-frame or not), InvalidArgument (a frame too long, too many descriptors),
  // others from recvmsg(2). After an error the reader is done.
  absl::StatusOr<std::optional<Frame>> Read(int socket);

 private:
  absl::Status KeepDescriptors(const void* message_header);
  absl::Status Advance(size_t bytes);

  size_t frame_bytes_max_;
  bool in_body_ = false;
  unsigned char header_[4] = {};
  size_t filled_ = 0;  // bytes of the header, then of the body
  Frame frame_;
};

// Sends frames without ever blocking; what the socket does not take waits here. Not thread-safe.
class FrameWriter {
 public:
  explicit FrameWriter(size_t queued_bytes_max, size_t frame_bytes_max = kFrameBytesMax)
      : queued_bytes_max_(queued_bytes_max), frame_bytes_max_(frame_bytes_max) {}

  // Queues a frame and sends what the socket takes. Borrows `fds` for the call.
  // Errors: InvalidArgument (too long), ResourceExhausted (the peer does not read: the queue is full), Unavailable (the peer
  // has closed), others from sendmsg(2).
  absl::Status Send(int socket, absl::string_view bytes, const std::vector<int>& fds = {});

  // Sends what the socket takes now. Errors as Send.
  absl::Status Flush(int socket);

  bool idle() const { return queue_.empty(); }
  // The kernel takes no descriptor until some that this user has sent are received (a user without privileges may have as many
  // on the way as RLIMIT_NOFILE says). Nothing tells when: try again soon.
  bool stalled() const { return stalled_; }
  size_t queued_bytes() const { return queued_bytes_; }

 private:
  struct Outgoing {
    std::string bytes;  // header included
    std::vector<UniqueFd> fds;
    size_t sent = 0;
  };
  absl::Status SendSome(int socket, Outgoing& frame);

  size_t queued_bytes_max_;
  size_t frame_bytes_max_;
  size_t queued_bytes_ = 0;
  bool stalled_ = false;
  std::deque<Outgoing> queue_;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_BASE_FRAME_H_
