// Bytes of a connection that has proved nothing yet. The first byte of an input says how the rest is cut, and whether it
// follows a good HELLO. Nobody without the key is ever proven, and nobody without it can be taken for the accepting side.
#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "runtime/transport/handshake.h"

namespace muster {
namespace {

void Promise(bool kept) {
  if (!kept) __builtin_trap();
}

const HandshakeParty& Accepting() {
  static const auto* const party =
      new HandshakeParty{"0123456789abcdef", 5, std::string(32, 'k'), 4, 40, 5, {{2, 20}, {6, 60}, {7, 70}}};
  return *party;
}
const HandshakeParty& Dialing() {
  static const auto* const party = new HandshakeParty{"0123456789abcdef", 5, std::string(32, 'k'), 6, 60, 5, {{4, 40}}};
  return *party;
}

void Feed(absl::string_view bytes, size_t step, const DialHandshake* greeted) {
  Nonce nonce;
  nonce.fill('b');
  AcceptHandshake handshake;
  if (greeted != nullptr) Promise(handshake.Take(Accepting(), nonce, greeted->hello()).ok() && handshake.greeted());
  while (!bytes.empty()) {
    const absl::string_view part = bytes.substr(0, std::min(step, handshake.wanted()));
    Promise(!part.empty());
    const auto reply = handshake.Take(Accepting(), nonce, part);
    Promise(!handshake.proven());
    Promise(!handshake.Unfinished("closed").empty());
    if (!reply.ok()) {
      Promise(!reply.status().message().empty() && reply.status().message().size() < 200);
      return;
    }
    Promise(reply->empty() || (reply->size() == kWelcomeBytes && handshake.greeted()));
    bytes.remove_prefix(part.size());
  }
}

}  // namespace
}  // namespace muster

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace muster;
  if (size == 0) return 0;
  Nonce nonce;
  nonce.fill('a');
  const DialHandshake dial(Dialing(), {4, 40}, 2, nonce);
  const absl::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  Feed(bytes, 1 + data[0] / 2, (data[0] & 1) != 0 ? &dial : nullptr);
  Promise(!dial.Prove(bytes).ok());
  Promise(!dial.Prove(bytes.substr(0, kWelcomeBytes)).ok());
  return 0;
}
