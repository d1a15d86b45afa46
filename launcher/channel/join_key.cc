#include "launcher/channel/join_key.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "launcher/channel/openssl.h"
#include "runtime/base/clock.h"
#include "runtime/base/fd.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr size_t kNonceBytes = 32;
constexpr size_t kMacBytes = 32;
constexpr size_t kIvBytes = 12;
constexpr size_t kTagBytes = 16;
constexpr size_t kLengthBytes = 4;
constexpr size_t kAnswerBytesMax = 64 << 10;
constexpr absl::string_view kRefusal = "no: ";
constexpr absl::Duration kAnswerWithin = absl::Seconds(5);
constexpr absl::Duration kPauseFirst = absl::Milliseconds(200);
constexpr absl::Duration kPauseLast = absl::Seconds(2);

static_assert(kJoinRequestBytes == kJoinGreeting.size() + 4 + kNonceBytes + kMacBytes, "as the header says");

const unsigned char* Bytes(absl::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }
unsigned char* Bytes(std::string* text) { return reinterpret_cast<unsigned char*>(text->data()); }

std::string LittleEndian(uint32_t number) {
  std::string bytes;
  for (int i = 0; i < 4; ++i) bytes.push_back(static_cast<char>(number >> (8 * i)));
  return bytes;
}

uint32_t FromLittleEndian(absl::string_view bytes) {
  uint32_t number = 0;
  for (int i = 3; i >= 0; --i) number = number << 8 | static_cast<unsigned char>(bytes[static_cast<size_t>(i)]);
  return number;
}

std::string Mac(const std::string& key, absl::string_view label, absl::string_view text) {
  const std::string all = absl::StrCat(label, text);
  std::string mac(kMacBytes, '\0');
  unsigned int length = 0;
  const bool made =
      HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), Bytes(all), all.size(), Bytes(&mac), &length) != nullptr &&
      length == kMacBytes;
  MUSTER_CHECK(made, "HMAC-SHA256");
  return mac;
}

std::string RequestMac(const std::string& key, absl::string_view node_and_nonce) {
  return Mac(key, "muster join request", node_and_nonce);
}

using CipherPtr = OpensslPtr<EVP_CIPHER_CTX, EVP_CIPHER_CTX_free>;

std::string NumericName(const sockaddr* address, socklen_t length, bool with_port) {
  char host[NI_MAXHOST], port[NI_MAXSERV];
  if (::getnameinfo(address, length, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0) return "";
  const std::string plain = std::string(host).substr(0, std::string(host).find('%'));
  if (!with_port) return plain;
  return absl::StrContains(host, ':') ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

// Whether `fd` became ready before `end_ns`.
bool Await(int fd, short events, int64_t end_ns) {
  while (true) {
    const int64_t left_ms = (end_ns - MonotonicNanoseconds()) / 1'000'000;
    if (left_ms <= 0) return false;
    pollfd waiting = {fd, events, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(left_ms));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

// One address asked once; the whole answer, or Unavailable.
absl::StatusOr<std::string> Ask(const addrinfo& place, absl::string_view request, std::string* local_address) {
  const int64_t end_ns = MonotonicNanoseconds() + absl::ToInt64Nanoseconds(kAnswerWithin);
  const UniqueFd socket(::socket(place.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return absl::UnavailableError(::strerrordesc_np(errno));
  if (::connect(socket.get(), place.ai_addr, place.ai_addrlen) != 0 && errno != EINPROGRESS) {
    return absl::UnavailableError(::strerrordesc_np(errno));
  }
  if (!Await(socket.get(), POLLOUT, end_ns)) return absl::UnavailableError("no answer in 5s");
  int error = 0;
  socklen_t length = sizeof error;
  ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) return absl::UnavailableError(::strerrordesc_np(error));
  sockaddr_storage local = {};
  socklen_t local_length = sizeof local;
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&local), &local_length) == 0) {
    *local_address = NumericName(reinterpret_cast<const sockaddr*>(&local), local_length, false);
  }
  if (::send(socket.get(), request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) {
    return absl::UnavailableError("the connection was closed at once");
  }
  std::string answer;
  while (answer.size() < kLengthBytes || answer.size() < kLengthBytes + FromLittleEndian(answer)) {
    char bytes[4096];
    if (!Await(socket.get(), POLLIN, end_ns)) return absl::UnavailableError("it takes connections but says nothing");
    const ssize_t count = ::recv(socket.get(), bytes, sizeof bytes, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (count <= 0) return absl::UnavailableError("the connection was closed without an answer");
    answer.append(bytes, static_cast<size_t>(count));
    if (answer.size() >= kLengthBytes && FromLittleEndian(answer) > kAnswerBytesMax) {
      return absl::UnavailableError("another program listens there");
    }
  }
  return answer;
}

}  // namespace

absl::StatusOr<std::string> JoinKeyFromText(absl::string_view text) {
  const std::string key(absl::StripAsciiWhitespace(text));
  if (key.size() >= kJoinKeyCharactersMin) return key;
  return absl::InvalidArgumentError(absl::StrCat("a join key has at least ", kJoinKeyCharactersMin, " characters, this one ",
                                                 key.size(), "; make one with: openssl rand -hex 32"));
}

std::string MakeJoinRequest(const std::string& key, uint32_t node, const std::string& nonce) {
  MUSTER_CHECK(nonce.size() == kNonceBytes, "a nonce of 32 bytes");
  const std::string shown = LittleEndian(node) + nonce;
  return absl::StrCat(kJoinGreeting, shown, RequestMac(key, shown));
}

absl::StatusOr<uint32_t> ReadJoinRequest(const std::string& key, absl::string_view request) {
  if (request.size() != kJoinRequestBytes || !absl::StartsWith(request, kJoinGreeting)) {
    return absl::PermissionDeniedError("a join request cut short");
  }
  const absl::string_view shown = request.substr(kJoinGreeting.size(), 4 + kNonceBytes);
  const std::string mac = RequestMac(key, shown);
  if (CRYPTO_memcmp(mac.data(), request.data() + (kJoinRequestBytes - kMacBytes), kMacBytes) != 0) {
    return absl::PermissionDeniedError("a join key that is not this job's");
  }
  return FromLittleEndian(shown);
}

absl::StatusOr<std::string> SealJoinAnswer(const std::string& key, absl::string_view request, const std::string& text) {
  const std::string sealing = Mac(key, "muster join answer", request);
  const std::string iv = RandomBytes(kIvBytes);
  const CipherPtr cipher(EVP_CIPHER_CTX_new());
  std::string sealed(text.size(), '\0'), tag(kTagBytes, '\0');
  int length = 0, rest = 0;
  const bool done = cipher != nullptr &&
                    EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, Bytes(sealing), Bytes(iv)) == 1 &&
                    EVP_EncryptUpdate(cipher.get(), nullptr, &rest, Bytes(request), static_cast<int>(request.size())) == 1 &&
                    EVP_EncryptUpdate(cipher.get(), Bytes(&sealed), &length, Bytes(text), static_cast<int>(text.size())) == 1 &&
                    EVP_EncryptFinal_ex(cipher.get(), Bytes(&sealed) + length, &rest) == 1 &&
                    EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, tag.data()) == 1;
  if (!done) return OpensslError("cannot seal a ticket");
  return absl::StrCat(LittleEndian(static_cast<uint32_t>(kIvBytes + sealed.size() + kTagBytes)), iv, sealed, tag);
}

absl::StatusOr<JoinTicket> OpenJoinAnswer(const std::string& key, absl::string_view request, absl::string_view answer) {
  if (answer.size() < kLengthBytes || answer.size() - kLengthBytes != FromLittleEndian(answer)) {
    return absl::DataLossError("the coordinator's answer was cut short");
  }
  if (answer.size() == kLengthBytes) return absl::PermissionDeniedError("the coordinator has another join key than this agent");
  answer.remove_prefix(kLengthBytes);
  if (answer.size() < kIvBytes + kTagBytes) return absl::DataLossError("the coordinator's answer is none");
  const std::string sealing = Mac(key, "muster join answer", request);
  const absl::string_view iv = answer.substr(0, kIvBytes);
  const absl::string_view sealed = answer.substr(kIvBytes, answer.size() - kIvBytes - kTagBytes);
  std::string tag(answer.substr(answer.size() - kTagBytes)), text(sealed.size(), '\0');
  const CipherPtr cipher(EVP_CIPHER_CTX_new());
  int length = 0, rest = 0;
  const bool done =
      cipher != nullptr && EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, Bytes(sealing), Bytes(iv)) == 1 &&
      EVP_DecryptUpdate(cipher.get(), nullptr, &rest, Bytes(request), static_cast<int>(request.size())) == 1 &&
      EVP_DecryptUpdate(cipher.get(), Bytes(&text), &length, Bytes(sealed), static_cast<int>(sealed.size())) == 1 &&
      EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, tag.data()) == 1 &&
      EVP_DecryptFinal_ex(cipher.get(), Bytes(&text) + length, &rest) == 1;
  if (!done) {
    OpensslError("").IgnoreError();  // its queue is this thread's
    return absl::DataLossError("the answer is not of this job's coordinator");
  }
  if (absl::StartsWith(text, kRefusal)) {
    return absl::PermissionDeniedError(
        absl::StrCat("the coordinator has no ticket for this node: ", text.substr(kRefusal.size())));
  }
  return JoinTicketFromText(text);
}

absl::StatusOr<FetchedTicket> FetchTicket(const std::string& coordinator, const std::string& key, uint32_t node,
                                          absl::Duration within, const std::function<bool()>& give_up) {
  const size_t colon = coordinator.rfind(':');
  if (colon == std::string::npos) return absl::InvalidArgumentError(absl::StrCat(coordinator, " is not HOST:PORT"));
  const std::string host(absl::StripSuffix(absl::StripPrefix(coordinator.substr(0, colon), "["), "]"));
  const std::string port = coordinator.substr(colon + 1);
  const int64_t end_ns = MonotonicNanoseconds() + absl::ToInt64Nanoseconds(within);
  std::string last = "not tried";
  for (absl::Duration pause = kPauseFirst;; pause = std::min(2 * pause, kPauseLast)) {
    if (give_up && give_up())
      return absl::CancelledError(absl::StrCat("not waited for any more: a coordinator at ", coordinator));
    addrinfo hints = {};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const int error = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
    if (error != 0) last = absl::StrCat("no address of ", host, ": ", ::gai_strerror(error));
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(error == 0 ? found : nullptr, ::freeaddrinfo);
    for (const addrinfo* one = owner.get(); one != nullptr; one = one->ai_next) {
      FetchedTicket fetched;
      const std::string request = MakeJoinRequest(key, node, RandomBytes(kNonceBytes));
      const auto answer = Ask(*one, request, &fetched.local_address);
      fetched.coordinator = NumericName(one->ai_addr, one->ai_addrlen, true);
      if (!answer.ok()) {
        last = absl::StrCat(fetched.coordinator, ": ", answer.status().message());
        continue;
      }
      auto ticket = OpenJoinAnswer(key, request, *answer);
      if (!ticket.ok()) {
        return absl::Status(ticket.status().code(), absl::StrCat(fetched.coordinator, ": ", ticket.status().message()));
      }
      fetched.ticket = *std::move(ticket);
      return fetched;
    }
    if (MonotonicNanoseconds() + absl::ToInt64Nanoseconds(pause) >= end_ns) break;
    absl::SleepFor(pause);
  }
  return absl::UnavailableError(absl::StrCat("no coordinator at ", coordinator, " in ", absl::FormatDuration(within), " (",
                                             last,
                                             "); is it up, and does a firewall or network policy let this node reach it?"));
}

}  // namespace muster
