// Dialing the peers of lower rank until every stream to them is open.
#ifndef MUSTER_RUNTIME_TRANSPORT_DIALER_H_
#define MUSTER_RUNTIME_TRANSPORT_DIALER_H_

#include <poll.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "runtime/base/fd.h"
#include "runtime/transport/frame.h"
#include "runtime/transport/handshake.h"
#include "runtime/transport/mesh.h"

namespace muster {

// One connection on its way; retries after a pause that doubles. Never blocks. Not thread-safe.
class Dial {
 public:
  // `party` outlives this.
  Dial(const HandshakeParty* party, const MeshPeer& peer, int stream, absl::Duration silence_max)
      : party_(party), peer_(peer), stream_(stream), silence_max_(silence_max) {}

  // What to poll for now, and until when at the latest (MonotonicNanoseconds()); a negative descriptor waits for time only.
  pollfd Polled() const;
  int64_t wake() const { return wake_; }

  // Goes on as far as the socket allows; `ready` says that its poll had news.
  // Errors: Unavailable, when trying again is of no use: names rank, host and address.
  absl::Status Advance(bool ready, int64_t now);

  bool open() const { return state_ == State::kOpen; }
  // No try is under way: Advance begins one once wake() has come.
  bool idle() const { return state_ == State::kPause; }
  // A try is under way, and began less than `age` nanoseconds ago.
  bool IsYoung(int64_t now, int64_t age) const { return !idle() && !open() && now - begun_ < age; }
  UniqueFd Take() { return std::move(fd_); }
  const MeshPeer& peer() const { return peer_; }
  int stream() const { return stream_; }
  // Why the last try failed; empty: none has, the peer has just not answered yet.
  const std::string& trouble() const { return trouble_; }

 private:
  enum class State { kPause, kConnecting, kWelcome, kOpening, kOpen };

  absl::Status Begin(int64_t now);
  absl::Status Greet(int64_t now);
  absl::Status Answer(int64_t now);
  absl::Status Again(std::string trouble, int64_t now);
  absl::Status GiveUp(absl::string_view why) const;

  const HandshakeParty* const party_;
  const MeshPeer peer_;
  const int stream_;
  const absl::Duration silence_max_;

  State state_ = State::kPause;
  int64_t wake_ = 0;
  int64_t begun_ = 0;  // the last try
  UniqueFd fd_;
  std::optional<DialHandshake> handshake_;
  std::array<char, kWelcomeBytes> answer_;
  size_t filled_ = 0;  // of answer_
  int failures_ = 0;
  std::string trouble_;
};

// "rank 3 (node-b) at 10.0.0.3:4242".
std::string Describe(const MeshPeer& peer);

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRANSPORT_DIALER_H_
