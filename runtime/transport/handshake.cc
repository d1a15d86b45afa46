#include "runtime/transport/handshake.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <cstring>
#include <initializer_list>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/transport/wire.h"

namespace muster {
namespace {

constexpr absl::string_view kMagic = "mustrmsh";
constexpr uint32_t kVersion = 2;
enum Type : uint32_t { kHello = 1, kWelcome = 2, kProof = 3 };

constexpr size_t kVersionAt = 8, kTypeAt = 12, kPrefixBytes = 16;
constexpr size_t kJobAt = 16, kGenerationAt = 32, kRankAt = 40, kSpawnAt = 44, kStreamAt = 48, kStreamsAt = 52;
constexpr size_t kToRankAt = 56, kToSpawnAt = 60, kCommunicatorAt = 64, kNonceAt = 72;
constexpr size_t kWelcomeNonceAt = 16, kWelcomeCodeAt = 48, kProofCodeAt = 16;
constexpr size_t kJobBytes = 16, kCodeBytes = 32;
constexpr size_t kLabelBytes = 13;

using Code = std::array<unsigned char, kCodeBytes>;

Code Authenticate(const std::string& key, std::initializer_list<absl::string_view> parts) {
  std::array<char, kLabelBytes + kHelloBytes + kWelcomeBytes + kPrefixBytes> transcript;
  size_t filled = 0;
  for (const absl::string_view part : parts) {
    MUSTER_CHECK(filled + part.size() <= transcript.size(), "the transcript of a handshake");
    std::memcpy(transcript.data() + filled, part.data(), part.size());
    filled += part.size();
  }
  Code code;
  unsigned int length = 0;
  const unsigned char* const made =
      ::HMAC(::EVP_sha256(), key.data(), static_cast<int>(key.size()),
             reinterpret_cast<const unsigned char*>(transcript.data()), filled, code.data(), &length);
  MUSTER_CHECK(made != nullptr && length == code.size(), "OpenSSL makes no HMAC-SHA256");
  return code;
}

Code CodeOfB(const std::string& key, absl::string_view hello, absl::string_view welcome) {
  return Authenticate(key, {"muster mesh b", hello, welcome.substr(0, kWelcomeCodeAt)});
}
Code CodeOfA(const std::string& key, absl::string_view hello, absl::string_view welcome, absl::string_view proof) {
  return Authenticate(key, {"muster mesh a", hello, welcome, proof.substr(0, kProofCodeAt)});
}

bool Equal(const Code& code, const char* at) { return ::CRYPTO_memcmp(code.data(), at, code.size()) == 0; }

void StorePrefix(Type type, char* at) {
  std::memcpy(at, kMagic.data(), kMagic.size());
  StoreWire<uint32_t>(kVersion, at + kVersionAt);
  StoreWire<uint32_t>(type, at + kTypeAt);
}

bool HasPrefix(const char* at, Type type) {
  return absl::string_view(at, kMagic.size()) == kMagic && LoadWire<uint32_t>(at + kVersionAt) == kVersion &&
         LoadWire<uint32_t>(at + kTypeAt) == type;
}

template <size_t n>
absl::string_view View(const std::array<char, n>& bytes) {
  return {bytes.data(), bytes.size()};
}

}  // namespace

absl::string_view NameStranger(absl::string_view bytes) {
  for (const absl::string_view verb : {"GET ", "POST", "PUT ", "HEAD", "OPTI", "DELE", "PRI ", "CONN"}) {
    if (absl::StartsWith(bytes, verb)) return "HTTP";
  }
  if (absl::StartsWith(bytes, "\x16\x03")) return "TLS";
  if (absl::StartsWith(bytes, "SSH-")) return "SSH";
  const bool text = !bytes.empty() && std::all_of(bytes.begin(), bytes.end(), [](char c) {
    return (c >= ' ' && c <= '~') || c == '\r' || c == '\n' || c == '\t';
  });
  return text ? "plain text" : "bytes that are no HELLO";
}

DialHandshake::DialHandshake(const HandshakeParty& self, const HandshakeParty::Peer& peer, int stream, const Nonce& nonce)
    : key_(self.key) {
  MUSTER_CHECK(self.job_id.size() == kJobBytes, "a job id of 16 bytes");
  char* const at = hello_.data();
  StorePrefix(kHello, at);
  std::memcpy(at + kJobAt, self.job_id.data(), kJobBytes);
  StoreWire<uint64_t>(self.generation, at + kGenerationAt);
  StoreWire<uint32_t>(static_cast<uint32_t>(self.rank), at + kRankAt);
  StoreWire<uint32_t>(self.spawn, at + kSpawnAt);
  StoreWire<uint32_t>(static_cast<uint32_t>(stream), at + kStreamAt);
  StoreWire<uint32_t>(static_cast<uint32_t>(self.streams), at + kStreamsAt);
  StoreWire<uint32_t>(static_cast<uint32_t>(peer.rank), at + kToRankAt);
  StoreWire<uint32_t>(peer.spawn, at + kToSpawnAt);
  StoreWire<uint64_t>(self.communicator, at + kCommunicatorAt);
  std::memcpy(at + kNonceAt, nonce.data(), nonce.size());
}

absl::StatusOr<std::array<char, kProofBytes>> DialHandshake::Prove(absl::string_view welcome) const {
  if (welcome.size() != kWelcomeBytes || !HasPrefix(welcome.data(), kWelcome)) {
    return absl::InvalidArgumentError("what answers there is no rank of this job");
  }
  if (!Equal(CodeOfB(key_, hello(), welcome), welcome.data() + kWelcomeCodeAt)) {
    return absl::PermissionDeniedError("what answers there does not have the generation's key");
  }
  std::array<char, kProofBytes> proof;
  StorePrefix(kProof, proof.data());
  const Code code = CodeOfA(key_, hello(), welcome, View(proof));
  std::memcpy(proof.data() + kProofCodeAt, code.data(), code.size());
  return proof;
}

int AcceptHandshake::rank() const { return static_cast<int>(LoadWire<uint32_t>(hello_.data() + kRankAt)); }
int AcceptHandshake::stream() const { return static_cast<int>(LoadWire<uint32_t>(hello_.data() + kStreamAt)); }

absl::StatusOr<absl::string_view> AcceptHandshake::Take(const HandshakeParty& self, const Nonce& nonce,
                                                        absl::string_view bytes) {
  MUSTER_CHECK(bytes.size() <= wanted() && phase_ != Phase::kDone, "more bytes than a handshake has");
  char* const message = phase_ == Phase::kHello ? hello_.data() : proof_.data();
  std::memcpy(message + filled_, bytes.data(), bytes.size());
  filled_ = static_cast<uint8_t>(filled_ + bytes.size());
  const size_t compared = std::min<size_t>(filled_, kMagic.size());
  if (absl::string_view(message, compared) != kMagic.substr(0, compared)) {
    // At once: a stranger that waits for an answer would sit here for the rest of its time.
    return absl::PermissionDeniedError(absl::StrCat("a stranger's connection: ", NameStranger({message, filled_})));
  }
  if (wanted() > 0) return absl::string_view();
  filled_ = 0;
  if (phase_ == Phase::kProof) {
    MUSTER_RETURN_IF_ERROR(CheckProof(self));
    phase_ = Phase::kDone;
    return absl::string_view();
  }
  MUSTER_RETURN_IF_ERROR(CheckHello(self));
  phase_ = Phase::kProof;
  StorePrefix(kWelcome, welcome_.data());
  std::memcpy(welcome_.data() + kWelcomeNonceAt, nonce.data(), nonce.size());
  const Code code = CodeOfB(self.key, View(hello_), View(welcome_));
  std::memcpy(welcome_.data() + kWelcomeCodeAt, code.data(), code.size());
  return View(welcome_);
}

absl::Status AcceptHandshake::CheckHello(const HandshakeParty& self) const {
  const char* const at = hello_.data();
  const uint32_t version = LoadWire<uint32_t>(at + kVersionAt);
  if (version != kVersion) {
    return absl::PermissionDeniedError(absl::StrCat("version ", version, " of the handshake, this is version ", kVersion));
  }
  if (LoadWire<uint32_t>(at + kTypeAt) != kHello) return absl::PermissionDeniedError("a stranger's connection: no HELLO");
  const uint32_t rank = LoadWire<uint32_t>(at + kRankAt);
  const uint64_t generation = LoadWire<uint64_t>(at + kGenerationAt);
  const uint32_t spawn = LoadWire<uint32_t>(at + kSpawnAt);
  const uint32_t to_rank = LoadWire<uint32_t>(at + kToRankAt), to_spawn = LoadWire<uint32_t>(at + kToSpawnAt);
  const uint32_t stream = LoadWire<uint32_t>(at + kStreamAt), streams = LoadWire<uint32_t>(at + kStreamsAt);
  if (absl::string_view(at + kJobAt, kJobBytes) != self.job_id) {
    return absl::PermissionDeniedError(absl::StrCat("rank ", rank, " of another job"));
  }
  if (generation != self.generation) {
    return absl::PermissionDeniedError(
        absl::StrCat("rank ", rank, " of generation ", generation, ", this is generation ", self.generation));
  }
  if (to_rank != static_cast<uint32_t>(self.rank) || to_spawn != self.spawn) {
    return absl::PermissionDeniedError(absl::StrCat("rank ", rank, " looks for rank ", to_rank, ", spawn ", to_spawn,
                                                    "; this is rank ", self.rank, ", spawn ", self.spawn));
  }
  if (LoadWire<uint64_t>(at + kCommunicatorAt) != self.communicator) {
    return absl::PermissionDeniedError(absl::StrCat("rank ", rank, " looks for another communicator of this rank"));
  }
  const auto peer = std::find_if(self.peers.begin(), self.peers.end(),
                                 [rank](const HandshakeParty::Peer& each) { return static_cast<uint32_t>(each.rank) == rank; });
  if (peer == self.peers.end()) return absl::PermissionDeniedError(absl::StrCat("rank ", rank, ", which is no peer"));
  if (peer->rank < self.rank) {
    return absl::PermissionDeniedError(absl::StrCat("rank ", rank, " dials, but is the lower and to be dialed"));
  }
  if (spawn != peer->spawn) {
    return absl::PermissionDeniedError(
        absl::StrCat("rank ", rank, " with spawn ", spawn, "; spawn ", peer->spawn, " is the peer"));
  }
  if (streams != static_cast<uint32_t>(self.streams) || stream >= streams) {
    return absl::PermissionDeniedError(
        absl::StrCat("stream ", stream, " of ", streams, " of rank ", rank, "; this rank has ", self.streams, " to each peer"));
  }
  return absl::OkStatus();
}

absl::Status AcceptHandshake::CheckProof(const HandshakeParty& self) const {
  if (!HasPrefix(proof_.data(), kProof)) {
    return absl::PermissionDeniedError(absl::StrCat("rank ", rank(), " sent a HELLO and then no PROOF"));
  }
  if (!Equal(CodeOfA(self.key, View(hello_), View(welcome_), View(proof_)), proof_.data() + kProofCodeAt)) {
    return absl::PermissionDeniedError(absl::StrCat("wrong key: the PROOF of rank ", rank(), " is not of this connection"));
  }
  return absl::OkStatus();
}

std::string AcceptHandshake::Unfinished(absl::string_view how) const {
  if (greeted()) return absl::StrCat("wrong key, or lost: rank ", rank(), " ", how, " before its PROOF");
  return absl::StrCat("a stranger's connection: ", how, " before its HELLO");
}

}  // namespace muster
