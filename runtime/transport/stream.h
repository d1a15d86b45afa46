// One established connection: what waits to be sent on it, what is expected from it, and the moving of both.
#ifndef MUSTER_RUNTIME_TRANSPORT_STREAM_H_
#define MUSTER_RUNTIME_TRANSPORT_STREAM_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>

#include "runtime/base/fd.h"
#include "runtime/transport/frame.h"
#include "runtime/transport/mesh.h"

namespace muster {

// Never blocks. Not thread-safe. The socket is watched edge-triggered: SetReadable and SetWritable tell of an edge, and the
// stream remembers it until the socket says EAGAIN.
class MeshStream {
 public:
  // Bytes moved by one call in one direction at most. Pieces of this size are still in the caches when the other side reads
  // them; a socket buffer filled to its end is not. Half as much costs a quarter more time at 256 KiB (tests/bench/mesh_exchange).
  static constexpr int64_t kPieceBytes = 256 * 1024;

  MeshStream(UniqueFd fd, uint64_t generation) : fd_(std::move(fd)), parser_(generation) {}

  void PostSend(MeshTag tag, const void* data, int64_t bytes, MeshTransfer* transfer);
  void PostReceive(MeshTag tag, void* data, int64_t bytes, MeshTransfer* transfer);

  void SetReadable() { readable_ = true; }
  void SetWritable() { writable_ = true; }

  // Moves at most a piece each way. True: call again, there may be more.
  bool Move();
  // The sending half of Move.
  bool MoveOut() { return writable_ && !sends_.empty() && SendPiece(); }
  bool movable() const { return (readable_ && !parked_) || (writable_ && !sends_.empty()); }

  bool sending() const { return !sends_.empty(); }
  bool receiving() const { return !receives_.empty() || current_.has_value(); }

  struct Fault {
    v1::AbortReason reason;  // kMismatch: a message is not as long as expected; kPeerLost
    std::string text;
    bool garbled = false;  // kPeerLost, because what came in is no frame
  };
  // Why something that is posted cannot be carried out any more; an end that nobody minds is none.
  std::optional<Fault> fault() const;
  bool faulty() const { return mismatch_ || (read_end_ && !parked_ && receiving()) || (write_end_ && sending()); }

  // Frames that are not data, as they came in.
  const std::optional<MeshFailure>& abort() const { return abort_; }  // the first
  bool left() const { return left_; }
  bool read_ended() const { return read_end_.has_value(); }
  // It ended because the other side's kernel does not answer, or cannot be reached.
  bool silent() const { return silent_; }
  // What is posted cannot be carried out any more.
  void End(const char* why);
  uint64_t stale_frames() const { return parser_.stale_frames(); }

  int fd() const { return fd_.get(); }
  UniqueFd* mutable_fd() { return &fd_; }

 private:
  static constexpr size_t kAheadBytes = 4096;
  static constexpr int kGathered = 16;  // messages that leave in one call

  struct Outgoing {
    char header[kMeshHeaderBytes];
    const char* data;
    int64_t bytes;
    int64_t sent;  // header included
    MeshTransfer* transfer;
  };
  struct Incoming {
    MeshTag tag;
    char* data;
    int64_t bytes;
    MeshTransfer* transfer;
  };

  bool SendPiece();
  void Sent(int64_t bytes);
  bool ReceivePiece();
  void UseAhead();
  bool Match();
  void Received(int64_t bytes);
  void EndOfReading(std::string why);

  UniqueFd fd_;
  bool readable_ = true, writable_ = true;

  std::deque<Outgoing> sends_;
  std::optional<std::string> write_end_;

  std::deque<Incoming> receives_;
  MeshFrameParser parser_;
  // Bytes that came in behind a header or a body, so that small messages take one call: ahead_[used, filled).
  char ahead_[kAheadBytes];
  size_t ahead_used_ = 0, ahead_filled_ = 0;
  std::optional<Incoming> current_;  // whose body is coming in; its transfer says how much is there
  bool parked_ = false;              // parser_.frame() waits for its receive to be posted
  std::optional<std::string> read_end_, mismatch_;
  std::optional<MeshFailure> abort_;
  bool left_ = false;
  bool garbled_ = false;
  bool silent_ = false;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRANSPORT_STREAM_H_
