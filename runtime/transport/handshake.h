// How two ranks of a generation make sure of each other before a connection carries data. Pure: bytes in, bytes out.
//
// The dialing side A, the accepting side B; all messages have a fixed length, numbers are little-endian:
//
//   HELLO, A -> B       0  "mustrmsh"   8 u32 version 2   12 u32 type 1   16 job id, 16 bytes   32 u64 generation
//                      40  u32 rank    44 u32 spawn       48 u32 stream   52 u32 streams to each peer
//                      56  u32 B's rank   60 u32 B's spawn   64 u64 communicator   72 nonce_a, 32 bytes      104 bytes
//   WELCOME, B -> A     0  "mustrmsh"   8 u32 version     12 u32 type 2   16 nonce_b, 32 bytes
//                      48  HMAC-SHA256(key, "muster mesh b" HELLO WELCOME[0, 48))                             80 bytes
//   PROOF, A -> B       0  "mustrmsh"   8 u32 version     12 u32 type 3
//                      16  HMAC-SHA256(key, "muster mesh a" HELLO WELCOME PROOF[0, 16))                       48 bytes
//   open, B -> A        the first frame (frame.h)
//
// Each side's code covers the other's fresh nonce, so neither can be replayed; it covers both ranks and its own side, so it
// cannot be turned against its sender or anyone else. Source of the code: RFC 2104, RFC 4231.
#ifndef MUSTER_RUNTIME_TRANSPORT_HANDSHAKE_H_
#define MUSTER_RUNTIME_TRANSPORT_HANDSHAKE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

inline constexpr size_t kNonceBytes = 32;
inline constexpr size_t kHelloBytes = 104;
inline constexpr size_t kWelcomeBytes = 80;
inline constexpr size_t kProofBytes = 48;

using Nonce = std::array<char, kNonceBytes>;

// What this rank knows of the generation.
struct HandshakeParty {
  struct Peer {
    int rank = 0;
    uint32_t spawn = 0;
  };
  std::string job_id;  // 16 bytes
  uint64_t generation = 0;
  std::string key;  // 32 bytes
  int rank = 0;
  uint32_t spawn = 0;
  int streams = 0;          // connections to each peer, the one for aborts included
  std::vector<Peer> peers;  // without this rank
  uint64_t communicator = 0;
};

// A's side of one connection.
class DialHandshake {
 public:
  DialHandshake(const HandshakeParty& self, const HandshakeParty::Peer& peer, int stream, const Nonce& nonce);

  absl::string_view hello() const { return {hello_.data(), hello_.size()}; }
  // The PROOF that answers a WELCOME of kWelcomeBytes.
  // Errors: InvalidArgument (that is no WELCOME), PermissionDenied (the other side does not have the key).
  absl::StatusOr<std::array<char, kProofBytes>> Prove(absl::string_view welcome) const;

 private:
  const std::string& key_;  // of the party, which outlives this
  std::array<char, kHelloBytes> hello_;
};

// B's side of one connection; of fixed size, holds no memory of its own.
class AcceptHandshake {
 public:
  // Bytes that may be read now; never past the end of the current message, for frames follow the last.
  size_t wanted() const { return (phase_ == Phase::kHello ? kHelloBytes : kProofBytes) - filled_; }

  // Takes `bytes`, at most wanted(). `nonce` is fresh randomness, used once in a connection's life.
  // Returns what is to be sent: nothing as yet, or the WELCOME. proven() afterwards says whether the peer has proved itself.
  // Errors: PermissionDenied, saying who it is not: to be closed and counted.
  absl::StatusOr<absl::string_view> Take(const HandshakeParty& self, const Nonce& nonce, absl::string_view bytes);

  // Why the connection ended before its time, `how` being "closed" or "silent for 2 s".
  std::string Unfinished(absl::string_view how) const;

  bool greeted() const { return phase_ != Phase::kHello; }  // its HELLO was good
  bool proven() const { return phase_ == Phase::kDone; }
  // Once greeted.
  int rank() const;
  int stream() const;

 private:
  enum class Phase : uint8_t { kHello, kProof, kDone };

  absl::Status CheckHello(const HandshakeParty& self) const;
  absl::Status CheckProof(const HandshakeParty& self) const;

  Phase phase_ = Phase::kHello;
  uint8_t filled_ = 0;
  std::array<char, kHelloBytes> hello_;
  std::array<char, kWelcomeBytes> welcome_;
  std::array<char, kProofBytes> proof_;
};

// What bytes that begin no HELLO look like: "HTTP", "TLS", "SSH", "plain text", "bytes that are no HELLO".
absl::string_view NameStranger(absl::string_view bytes);

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRANSPORT_HANDSHAKE_H_
