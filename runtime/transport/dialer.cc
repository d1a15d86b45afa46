#include "runtime/transport/dialer.h"

#include <errno.h>
#include <openssl/rand.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"
#include "runtime/transport/socket.h"

namespace muster {
namespace {

constexpr int64_t kMillisecond = 1'000'000;
constexpr int64_t kPauseMin = 10 * kMillisecond, kPauseMax = 200 * kMillisecond;
// The kernel asks again after 1, 3, 7, 15 s...; a node that comes up meanwhile is found sooner by a new try.
constexpr int64_t kConnectMax = 3'000 * kMillisecond;

}  // namespace

std::string Describe(const MeshPeer& peer) {
  return absl::StrCat("rank ", peer.rank, " (", peer.host, ") at ", ToString(peer.address));
}

pollfd Dial::Polled() const {
  if (state_ == State::kPause || state_ == State::kOpen) return {-1, 0, 0};
  return {fd_.get(), static_cast<short>(state_ == State::kConnecting ? POLLOUT : POLLIN), 0};
}

absl::Status Dial::Advance(bool ready, int64_t now) {
  switch (state_) {
    case State::kPause:
      return now < wake_ ? absl::OkStatus() : Begin(now);
    case State::kConnecting:
      if (ready) return Greet(now);
      return now < wake_ ? absl::OkStatus() : Again("nothing answers", now);
    case State::kWelcome:
    case State::kOpening:
      return ready ? Answer(now) : absl::OkStatus();
    case State::kOpen:
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status Dial::Begin(int64_t now) {
  absl::StatusOr<UniqueFd> fd = BeginConnect(peer_.address);
  if (!fd.ok()) return Again(std::string(fd.status().message()), now);
  fd_ = *std::move(fd);
  begun_ = now;
  state_ = State::kConnecting;
  wake_ = now + kConnectMax;
  return absl::OkStatus();
}

absl::Status Dial::Greet(int64_t now) {
  if (const int error = SocketError(fd_.get()); error != 0) return Again(std::strerror(error), now);
  MUSTER_RETURN_IF_ERROR(PrepareConnection(fd_.get(), silence_max_));
  Nonce nonce;
  if (::RAND_bytes(reinterpret_cast<unsigned char*>(nonce.data()), static_cast<int>(nonce.size())) != 1) {
    return GiveUp("no randomness for a HELLO");
  }
  handshake_.emplace(*party_, HandshakeParty::Peer{peer_.rank, peer_.spawn}, stream_, nonce);
  const absl::string_view hello = handshake_->hello();
  if (::send(fd_.get(), hello.data(), hello.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(hello.size())) {
    return Again("closed the connection before our HELLO", now);
  }
  state_ = State::kWelcome;
  filled_ = 0;
  wake_ = std::numeric_limits<int64_t>::max();  // one that is stopped leaves us in its listener's queue
  return absl::OkStatus();
}

absl::Status Dial::Answer(int64_t now) {
  const size_t wanted = state_ == State::kWelcome ? kWelcomeBytes : kMeshHeaderBytes;
  while (filled_ < wanted) {
    const ssize_t received = ::recv(fd_.get(), answer_.data() + filled_, wanted - filled_, 0);
    if (received < 0 && errno == EINTR) continue;
    if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return absl::OkStatus();
    if (received <= 0) return Again("refused us: it closed the connection during the handshake", now);
    filled_ += static_cast<size_t>(received);
  }
  filled_ = 0;
  if (state_ == State::kOpening) {
    MeshFrameParser parser(party_->generation);
    absl::string_view bytes(answer_.data(), kMeshHeaderBytes);
    const auto event = parser.Next(&bytes);
    if (!event.ok() || *event != MeshFrameParser::Event::kOpen) return Again("answered our PROOF with something else", now);
    state_ = State::kOpen;
    return absl::OkStatus();
  }
  const auto proof = handshake_->Prove({answer_.data(), kWelcomeBytes});
  if (absl::IsPermissionDenied(proof.status())) return GiveUp(proof.status().message());
  if (!proof.ok()) return Again(std::string(proof.status().message()), now);
  if (::send(fd_.get(), proof->data(), proof->size(), MSG_NOSIGNAL) != static_cast<ssize_t>(proof->size())) {
    return Again("closed the connection before our PROOF", now);
  }
  state_ = State::kOpening;
  return absl::OkStatus();
}

// A peer that closes during the handshake may have been slow, or flooded by strangers: so no refusal is the last.
absl::Status Dial::Again(std::string trouble, int64_t now) {
  fd_.Reset();
  handshake_.reset();
  trouble_ = std::move(trouble);
  wake_ = now + std::min(kPauseMax, kPauseMin << std::min(failures_++, 10));
  state_ = State::kPause;
  return absl::OkStatus();
}

absl::Status Dial::GiveUp(absl::string_view why) const {
  return absl::UnavailableError(absl::StrCat(Describe(peer_), ": ", why));
}

}  // namespace muster
