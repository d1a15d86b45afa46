#include "runtime/transport/handshake.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/transport/wire.h"

namespace muster {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// Rank 4, which takes connections, and rank 6, which dials it.
HandshakeParty Accepting() { return {"0123456789abcdef", 5, std::string(32, 'k'), 4, 40, 5, {{2, 20}, {6, 60}, {7, 70}}}; }
HandshakeParty Dialing() { return {"0123456789abcdef", 5, std::string(32, 'k'), 6, 60, 5, {{4, 40}}}; }
const HandshakeParty::Peer kTo = {4, 40};

Nonce Filled(char with) {
  Nonce nonce;
  nonce.fill(with);
  return nonce;
}

template <size_t n>
std::string Text(const std::array<char, n>& bytes) {
  return {bytes.data(), n};
}

// Feeds `bytes` in parts of `step`; what was answered, or the refusal.
absl::StatusOr<std::string> Feed(AcceptHandshake& handshake, const HandshakeParty& party, absl::string_view bytes,
                                 char nonce = 'b', size_t step = 1000) {
  std::string answer;
  while (!bytes.empty()) {
    const absl::string_view part = bytes.substr(0, std::min(step, handshake.wanted()));
    const auto reply = handshake.Take(party, Filled(nonce), part);
    if (!reply.ok()) return reply.status();
    answer.append(reply->data(), reply->size());
    bytes.remove_prefix(part.size());
  }
  return answer;
}

// Why rank 4 refuses what `change` makes of a HELLO; "" when it does not.
std::string RefusedHello(const std::function<void(std::string*)>& change) {
  const HandshakeParty from = Dialing();
  std::string hello(DialHandshake(from, kTo, 2, Filled('a')).hello());
  change(&hello);
  AcceptHandshake handshake;
  return std::string(Feed(handshake, Accepting(), hello).status().message());
}

TEST(Handshake, TwoRanksOfAGenerationFindEachOther) {
  const HandshakeParty from = Dialing(), party = Accepting();
  for (const size_t step : {size_t{1}, size_t{7}, size_t{1000}}) {
    const DialHandshake dial(from, kTo, 2, Filled('a'));
    AcceptHandshake accept;
    EXPECT_EQ(accept.wanted(), kHelloBytes);
    const auto welcome = Feed(accept, party, dial.hello(), 'b', step);
    ASSERT_TRUE(welcome.ok()) << welcome.status();
    ASSERT_EQ(welcome->size(), kWelcomeBytes);
    EXPECT_TRUE(accept.greeted());
    EXPECT_FALSE(accept.proven());
    EXPECT_EQ(accept.wanted(), kProofBytes);
    const auto proof = dial.Prove(*welcome);
    ASSERT_TRUE(proof.ok()) << proof.status();
    const auto answer = Feed(accept, party, Text(*proof), 'c', step);
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(*answer, "");
    EXPECT_TRUE(accept.proven());
    EXPECT_EQ(accept.rank(), 6);
    EXPECT_EQ(accept.stream(), 2);
  }
}

TEST(Handshake, EachWrongHelloIsNamed) {
  const struct {
    const char* named;
    std::function<void(std::string*)> change;
  } kWrong[] = {
      {"rank 6 of another job", [](std::string* hello) { (*hello)[16] ^= 1; }},
      {"rank 6 of another job", [](std::string* hello) { (*hello)[31] ^= 1; }},
      {"rank 6 of generation 4, this is generation 5", [](std::string* hello) { StoreWire<uint64_t>(4, hello->data() + 32); }},
      {"rank 6 of generation 6, this is generation 5", [](std::string* hello) { StoreWire<uint64_t>(6, hello->data() + 32); }},
      {"rank 99, which is no peer", [](std::string* hello) { StoreWire<uint32_t>(99, hello->data() + 40); }},
      {"rank 4, which is no peer", [](std::string* hello) { StoreWire<uint32_t>(4, hello->data() + 40); }},
      {"rank 4294967295, which is no peer", [](std::string* hello) { StoreWire<uint32_t>(~0u, hello->data() + 40); }},
      {"rank 2 dials, but is the lower", [](std::string* hello) { StoreWire<uint32_t>(2, hello->data() + 40); }},
      {"rank 6 with spawn 59; spawn 60 is the peer", [](std::string* hello) { StoreWire<uint32_t>(59, hello->data() + 44); }},
      {"stream 5 of 5 of rank 6", [](std::string* hello) { StoreWire<uint32_t>(5, hello->data() + 48); }},
      {"stream 2 of 9 of rank 6; this rank has 5", [](std::string* hello) { StoreWire<uint32_t>(9, hello->data() + 52); }},
      {"looks for rank 3, spawn 40; this is rank 4, spawn 40",
       [](std::string* hello) { StoreWire<uint32_t>(3, hello->data() + 56); }},
      {"looks for rank 4, spawn 39; this is rank 4, spawn 40",
       [](std::string* hello) { StoreWire<uint32_t>(39, hello->data() + 60); }},
      {"looks for another communicator of this rank", [](std::string* hello) { StoreWire<uint64_t>(1, hello->data() + 64); }},
      {"version 1 of the handshake, this is version 2", [](std::string* hello) { StoreWire<uint32_t>(1, hello->data() + 8); }},
      {"a stranger's connection: no HELLO", [](std::string* hello) { StoreWire<uint32_t>(3, hello->data() + 12); }},
      {"a stranger's connection: bytes that are no HELLO", [](std::string* hello) { (*hello)[0] ^= '\x80'; }},
      {"a stranger's connection: HTTP", [](std::string* hello) { *hello = "GET /metrics HTTP/1.1\r\n"; }},
      {"a stranger's connection: HTTP", [](std::string* hello) { *hello = "PRI * HTTP/2.0\r\n\r\nSM"; }},
      {"a stranger's connection: TLS", [](std::string* hello) { *hello = std::string("\x16\x03\x01\x02\x00\x01", 6); }},
      {"a stranger's connection: SSH", [](std::string* hello) { *hello = "SSH-2.0-OpenSSH_9.2"; }},
      {"a stranger's connection: plain text", [](std::string* hello) { *hello = "hello?\r\n"; }},
  };
  for (const auto& wrong : kWrong) EXPECT_THAT(RefusedHello(wrong.change), HasSubstr(wrong.named));
  EXPECT_EQ(RefusedHello([](std::string*) {}), "");
}

// Whatever one bit of whichever message is changed on the way, the accepting side never takes the peer for proven.
TEST(Handshake, AChangeOfAnyBitIsRefused) {
  const HandshakeParty from = Dialing(), party = Accepting();
  const auto flip = [](std::string* bytes, size_t bit) {
    (*bytes)[bit / 8] = static_cast<char>((*bytes)[bit / 8] ^ (1 << bit % 8));
  };
  for (size_t bit = 0; bit < 8 * (kHelloBytes + kWelcomeBytes + kProofBytes); ++bit) {
    const DialHandshake dial(from, kTo, 2, Filled('a'));
    AcceptHandshake accept;
    std::string hello(dial.hello());
    if (bit < 8 * kHelloBytes) flip(&hello, bit);
    auto welcome = Feed(accept, party, hello);
    if (!welcome.ok()) {
      EXPECT_LT(bit, 8 * 72) << "of a HELLO all but the nonce can be checked at once";
      continue;
    }
    if (bit >= 8 * kHelloBytes && bit < 8 * (kHelloBytes + kWelcomeBytes)) flip(&*welcome, bit - 8 * kHelloBytes);
    const auto proof = dial.Prove(*welcome);
    if (bit < 8 * (kHelloBytes + kWelcomeBytes)) {
      EXPECT_FALSE(proof.ok()) << "bit " << bit;
      continue;
    }
    std::string changed = Text(*proof);
    flip(&changed, bit - 8 * (kHelloBytes + kWelcomeBytes));
    EXPECT_FALSE(Feed(accept, party, changed).ok()) << "bit " << bit;
    EXPECT_FALSE(accept.proven()) << "bit " << bit;
  }
}

TEST(Handshake, AnotherKeyIsRefusedByBothSides) {
  HandshakeParty from = Dialing(), party = Accepting();
  from.key[31] ^= 1;
  const DialHandshake dial(from, kTo, 2, Filled('a'));
  AcceptHandshake accept;
  const auto welcome = Feed(accept, party, dial.hello());
  ASSERT_TRUE(welcome.ok());
  EXPECT_TRUE(absl::IsPermissionDenied(dial.Prove(*welcome).status()));

  // One that proves itself all the same: it answers a WELCOME of its own key.
  AcceptHandshake own;
  HandshakeParty other = Accepting();
  other.key = from.key;
  const auto own_welcome = Feed(own, other, dial.hello());
  const auto proof = dial.Prove(*own_welcome);
  ASSERT_TRUE(proof.ok());
  EXPECT_THAT(std::string(Feed(accept, party, Text(*proof)).status().message()), StartsWith("wrong key: the PROOF of rank 6"));
  EXPECT_FALSE(accept.proven());
}

TEST(Handshake, NothingCanBeReplayedReflectedOrMoved) {
  const HandshakeParty from = Dialing(), party = Accepting();
  const DialHandshake dial(from, kTo, 2, Filled('a'));
  AcceptHandshake first;
  const auto welcome = Feed(first, party, dial.hello(), 'b');
  const std::string proof = Text(*dial.Prove(*welcome));
  ASSERT_TRUE(Feed(first, party, proof).ok());

  AcceptHandshake again;  // the same bytes, but a fresh nonce on this side
  ASSERT_TRUE(Feed(again, party, dial.hello(), 'c').ok());
  EXPECT_THAT(std::string(Feed(again, party, proof).status().message()), HasSubstr("wrong key"));

  AcceptHandshake other_stream;  // the PROOF of one connection on another
  const DialHandshake dial3(from, kTo, 3, Filled('a'));
  ASSERT_TRUE(Feed(other_stream, party, dial3.hello(), 'b').ok());
  EXPECT_THAT(std::string(Feed(other_stream, party, proof).status().message()), HasSubstr("wrong key"));

  AcceptHandshake reflected;  // the code of the WELCOME as that of the PROOF
  const auto welcome2 = Feed(reflected, party, dial.hello(), 'd');
  EXPECT_THAT(std::string(Feed(reflected, party, proof.substr(0, 16) + welcome2->substr(48)).status().message()),
              HasSubstr("wrong key"));

  AcceptHandshake hello_twice;
  ASSERT_TRUE(Feed(hello_twice, party, dial.hello(), 'b').ok());
  EXPECT_THAT(std::string(Feed(hello_twice, party, dial.hello().substr(0, kProofBytes)).status().message()),
              HasSubstr("rank 6 sent a HELLO and then no PROOF"));

  // A replayed WELCOME does not fit another HELLO.
  EXPECT_TRUE(absl::IsPermissionDenied(DialHandshake(from, kTo, 2, Filled('e')).Prove(*welcome).status()));
  // Nor does a HELLO, or a PROOF, do as a WELCOME.
  EXPECT_TRUE(absl::IsInvalidArgument(dial.Prove(dial.hello().substr(0, kWelcomeBytes)).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(dial.Prove(proof).status()));
}

TEST(Handshake, WhoEndsEarlyIsNamed) {
  AcceptHandshake handshake;
  EXPECT_EQ(handshake.Unfinished("closed"), "a stranger's connection: closed before its HELLO");
  const HandshakeParty from = Dialing(), party = Accepting();
  ASSERT_TRUE(Feed(handshake, party, DialHandshake(from, kTo, 2, Filled('a')).hello()).ok());
  EXPECT_EQ(handshake.Unfinished("closed"), "wrong key, or lost: rank 6 closed before its PROOF");
}

}  // namespace
}  // namespace muster
