#include "runtime/base/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr size_t kHeaderBytes = 4;

}  // namespace

absl::StatusOr<std::optional<Frame>> FrameReader::Read(int socket) {
  while (true) {
    // Never past the end of this frame: the next one's descriptors must not arrive with this one.
    char* target = in_body_ ? frame_.bytes.data() : reinterpret_cast<char*>(header_);
    const size_t wanted = (in_body_ ? frame_.bytes.size() : kHeaderBytes) - filled_;
    iovec part{target + filled_, wanted};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kFrameFdsMax)];
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t received = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (received < 0 && errno == EINTR) continue;
    if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return std::optional<Frame>();
    if (received < 0) return ErrnoToStatus(errno, "recvmsg");
    MUSTER_RETURN_IF_ERROR(KeepDescriptors(&message));
    if (received == 0) return absl::UnavailableError("the peer has closed the connection");
    MUSTER_RETURN_IF_ERROR(Advance(static_cast<size_t>(received)));
    if (in_body_ && filled_ == frame_.bytes.size()) {
      in_body_ = false;
      filled_ = 0;
      return std::optional<Frame>(std::exchange(frame_, Frame()));
    }
  }
}

absl::Status FrameReader::Advance(size_t bytes) {
  filled_ += bytes;
  if (in_body_ || filled_ < kHeaderBytes) return absl::OkStatus();
  uint32_t length = 0;
  for (size_t i = 0; i < kHeaderBytes; ++i) length |= static_cast<uint32_t>(header_[i]) << (8 * i);
  if (length > frame_bytes_max_) {
    return absl::InvalidArgumentError(
        absl::StrCat("a frame of ", length, " bytes; at most ", frame_bytes_max_, " are allowed"));
  }
  in_body_ = true;
  filled_ = 0;
  frame_.bytes.resize(length);
  return absl::OkStatus();
}

absl::Status FrameReader::KeepDescriptors(const void* message_header) {
  msghdr message = *static_cast<const msghdr*>(message_header);
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
      frame_.fds.emplace_back(fd);
    }
  }
  if ((message.msg_flags & MSG_CTRUNC) != 0 || frame_.fds.size() > kFrameFdsMax) {
    return absl::InvalidArgumentError(absl::StrCat("a frame carries more than ", kFrameFdsMax, " descriptors"));
  }
  return absl::OkStatus();
}

absl::Status FrameWriter::Send(int socket, absl::string_view bytes, const std::vector<int>& fds) {
  if (bytes.size() > frame_bytes_max_ || fds.size() > kFrameFdsMax) {
    return absl::InvalidArgumentError(absl::StrCat("a frame of ", bytes.size(), " bytes and ", fds.size(),
                                                   " descriptors; at most ", frame_bytes_max_, " and ", kFrameFdsMax,
                                                   " are allowed"));
  }
  if (queued_bytes_ + kHeaderBytes + bytes.size() > queued_bytes_max_) {
    return absl::ResourceExhaustedError(absl::StrCat("the peer does not read: ", queued_bytes_, " bytes wait for it"));
  }
  Outgoing frame;
  frame.bytes.reserve(kHeaderBytes + bytes.size());
  for (size_t i = 0; i < kHeaderBytes; ++i) frame.bytes.push_back(static_cast<char>(bytes.size() >> (8 * i) & 0xff));
  frame.bytes.append(bytes.data(), bytes.size());
  for (const int fd : fds) {
    UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!copy) return ErrnoToStatus(errno, absl::StrCat("duplicate descriptor ", fd));
    frame.fds.push_back(std::move(copy));
  }
  queued_bytes_ += frame.bytes.size();
  queue_.push_back(std::move(frame));
  return Flush(socket);
}

absl::Status FrameWriter::Flush(int socket) {
  stalled_ = false;
  while (!queue_.empty()) {
    Outgoing& frame = queue_.front();
    const size_t before = frame.sent;
    MUSTER_RETURN_IF_ERROR(SendSome(socket, frame));
    queued_bytes_ -= frame.sent - before;
    if (frame.sent < frame.bytes.size()) return absl::OkStatus();
    queue_.pop_front();
  }
  return absl::OkStatus();
}

// Sends until the frame is out or the socket is full.
absl::Status FrameWriter::SendSome(int socket, Outgoing& frame) {
  while (frame.sent < frame.bytes.size()) {
    iovec part{frame.bytes.data() + frame.sent, frame.bytes.size() - frame.sent};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kFrameFdsMax)] = {};
    if (frame.sent == 0 && !frame.fds.empty()) {
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(sizeof(int) * frame.fds.size());
      cmsghdr* rights = CMSG_FIRSTHDR(&message);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(sizeof(int) * frame.fds.size());
      for (size_t i = 0; i < frame.fds.size(); ++i) {
        const int fd = frame.fds[i].get();
        std::memcpy(CMSG_DATA(rights) + i * sizeof(int), &fd, sizeof fd);
      }
    }
    const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ETOOMANYREFS)) {
      stalled_ = errno == ETOOMANYREFS;
      return absl::OkStatus();
    }
    if (sent < 0) return ErrnoToStatus(errno, "sendmsg");
    frame.sent += static_cast<size_t>(sent);
  }
  frame.fds.clear();
  return absl::OkStatus();
}

}  // namespace muster
