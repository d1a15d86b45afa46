#include "runtime/transport/stream.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace muster {

void MeshStream::PostSend(MeshTag tag, const void* data, int64_t bytes, MeshTransfer* transfer) {
  *transfer = {};
  Outgoing& out = sends_.emplace_back();
  StoreMeshFrame({MeshFrameType::kData, parser_.generation(), tag, static_cast<uint64_t>(bytes)}, out.header);
  out.data = static_cast<const char*>(data);
  out.bytes = bytes;
  out.sent = 0;
  out.transfer = transfer;
}

void MeshStream::PostReceive(MeshTag tag, void* data, int64_t bytes, MeshTransfer* transfer) {
  *transfer = {};
  receives_.push_back({tag, static_cast<char*>(data), bytes, transfer});
  if (parked_ && Match()) UseAhead();
}

bool MeshStream::Move() {
  const bool sent = MoveOut();
  const bool received = readable_ && !parked_ && ReceivePiece();
  return sent || received;
}

bool MeshStream::SendPiece() {
  iovec parts[2 * kGathered];
  size_t count = 0;
  int64_t room = kPieceBytes;
  for (const Outgoing& out : sends_) {
    if (count + 2 > 2 * kGathered || room <= 0) break;
    constexpr auto kHeader = static_cast<int64_t>(kMeshHeaderBytes);
    if (out.sent < kHeader) {
      parts[count++] = {const_cast<char*>(out.header) + out.sent, static_cast<size_t>(kHeader - out.sent)};
    }
    const int64_t from = std::max<int64_t>(0, out.sent - kHeader);
    const int64_t part = std::min(room, out.bytes - from);
    if (part > 0) parts[count++] = {const_cast<char*>(out.data) + from, static_cast<size_t>(part)};
    room -= part;
  }
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = count;
  const ssize_t sent = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent >= 0) {
    Sent(sent);
    return true;
  }
  if (errno == EINTR) return true;
  writable_ = false;
  if (errno != EAGAIN && errno != EWOULDBLOCK) write_end_ = std::strerror(errno);
  return false;
}

void MeshStream::Sent(int64_t bytes) {
  while (!sends_.empty()) {
    Outgoing& out = sends_.front();
    const int64_t whole = static_cast<int64_t>(kMeshHeaderBytes) + out.bytes;
    const int64_t part = std::min(bytes, whole - out.sent);
    out.sent += part;
    bytes -= part;
    out.transfer->moved = std::max<int64_t>(0, out.sent - static_cast<int64_t>(kMeshHeaderBytes));
    if (out.sent < whole) return;
    out.transfer->done = true;
    sends_.pop_front();
  }
}

bool MeshStream::ReceivePiece() {
  iovec parts[2];
  size_t count = 0;
  int64_t wanted = 0;
  // The body goes straight to its place; what follows it is read ahead only where the body's end is within the piece.
  if (current_) {
    wanted = std::min(kPieceBytes, current_->bytes - current_->transfer->moved);
    parts[count++] = {current_->data + current_->transfer->moved, static_cast<size_t>(wanted)};
  }
  if (!current_ || wanted == current_->bytes - current_->transfer->moved) parts[count++] = {ahead_, kAheadBytes};
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = count;
  const ssize_t received = ::recvmsg(fd_.get(), &message, MSG_DONTWAIT);
  if (received < 0) {
    if (errno == EINTR) return true;
    readable_ = false;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return false;
    silent_ = errno != ECONNRESET && errno != EPIPE;
    EndOfReading(std::strerror(errno));
    return false;
  }
  if (received == 0) {
    EndOfReading(current_ || !parser_.at_boundary() ? "closed in the middle of a message" : "closed the connection");
    return false;
  }
  const int64_t body = std::min<int64_t>(received, wanted);
  ahead_used_ = 0;
  ahead_filled_ = static_cast<size_t>(received - body);
  if (current_) Received(body);
  UseAhead();
  return true;
}

// Parses what was read ahead, until it is used up, parked, or of no use.
void MeshStream::UseAhead() {
  while (ahead_used_ < ahead_filled_ && !parked_ && !read_end_) {
    if (current_) {
      const int64_t part =
          std::min<int64_t>(static_cast<int64_t>(ahead_filled_ - ahead_used_), current_->bytes - current_->transfer->moved);
      std::memcpy(current_->data + current_->transfer->moved, ahead_ + ahead_used_, static_cast<size_t>(part));
      ahead_used_ += static_cast<size_t>(part);
      Received(part);
      continue;
    }
    absl::string_view input(ahead_ + ahead_used_, ahead_filled_ - ahead_used_);
    const absl::StatusOr<MeshFrameParser::Event> event = parser_.Next(&input);
    ahead_used_ = ahead_filled_ - input.size();
    if (!event.ok()) {
      garbled_ = true;
      return EndOfReading(absl::StrCat("sent ", event.status().message()));
    }
    switch (*event) {
      case MeshFrameParser::Event::kData:
        parked_ = true;
        Match();
        break;
      case MeshFrameParser::Event::kAbort:
        if (!abort_) abort_ = parser_.abort();
        break;
      case MeshFrameParser::Event::kLeave:
        left_ = true;
        break;
      case MeshFrameParser::Event::kOpen:  // said once more; harmless
      case MeshFrameParser::Event::kMore:
        break;
    }
  }
}

// The frame at the front meets its receive, if that is posted.
bool MeshStream::Match() {
  const MeshFrame& frame = parser_.frame();
  const auto found = std::find_if(receives_.begin(), receives_.end(), [&frame](const Incoming& each) {
    return each.tag.op_seq == frame.tag.op_seq && each.tag.segment == frame.tag.segment;
  });
  if (found == receives_.end()) return false;
  if (static_cast<uint64_t>(found->bytes) != frame.length) {
    mismatch_ = absl::StrCat("sent ", frame.length, " bytes as segment ", frame.tag.segment, " of operation ", frame.tag.op_seq,
                             ", where ", found->bytes, " are expected");
    return false;
  }
  parked_ = false;
  current_ = *found;
  receives_.erase(found);
  Received(0);
  return true;
}

void MeshStream::Received(int64_t bytes) {
  current_->transfer->moved += bytes;
  if (current_->transfer->moved < current_->bytes) return;
  current_->transfer->done = true;
  current_.reset();
}

void MeshStream::EndOfReading(std::string why) {
  readable_ = false;
  if (!read_end_) read_end_ = std::move(why);
}

void MeshStream::End(const char* why) {
  EndOfReading(why);
  writable_ = false;
  if (!write_end_) write_end_ = why;
}

std::optional<MeshStream::Fault> MeshStream::fault() const {
  if (!faulty()) return std::nullopt;
  if (mismatch_) return Fault{v1::AbortReason::kMismatch, *mismatch_};
  return Fault{v1::AbortReason::kPeerLost, read_end_ && receiving() ? *read_end_ : *write_end_, garbled_};
}

}  // namespace muster
