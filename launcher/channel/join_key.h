// Joining by a secret that coordinator and agents share: who starts the agents (a cluster that gives each pod the same files) need not
// carry a ticket made for each of them.
//
// The agent asks at the coordinator's door (front_door.h) for a ticket of its node, and shows by an HMAC that it holds the key. The
// answer is sealed under a key of that one request, so it tells only a holder of the join key whom to trust (the job's authority) and
// gives only it the token; all else then goes as with any ticket. A request that is heard and sent again gets an answer that the
// sender cannot open. There is no forward secrecy: a key that leaks later opens the tickets of streams that were recorded, which by
// then are used up.
//
//   request  "mjoin1" | node u32 LE | nonce 32 | HMAC-SHA256(key, "muster join request" | node | nonce)
//   answer   length u32 LE | IV 12 | AES-256-GCM ciphertext | tag 16; sealed with HMAC-SHA256(key, "muster join answer" | request),
//            the request authenticated along; length 0: the key is another
//
// Source: RFC 5116, section 3 (nonces), NIST SP 800-38D (GCM), RFC 2104 (HMAC).
#ifndef MUSTER_LAUNCHER_CHANNEL_JOIN_KEY_H_
#define MUSTER_LAUNCHER_CHANNEL_JOIN_KEY_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "launcher/channel/authority.h"

namespace muster {

inline constexpr absl::string_view kJoinGreeting = "mjoin1";
inline constexpr size_t kJoinRequestBytes = 6 + 4 + 32 + 32;
inline constexpr size_t kJoinKeyCharactersMin = 32;

// What stands in a key's file, without blanks around it. Errors: InvalidArgument (shorter than kJoinKeyCharactersMin; says how to
// make one).
absl::StatusOr<std::string> JoinKeyFromText(absl::string_view text);

// One agent's asking. `nonce`: 32 random bytes.
std::string MakeJoinRequest(const std::string& key, uint32_t node, const std::string& nonce);
// Errors: PermissionDenied ("a join key that is not this job's").
absl::StatusOr<uint32_t> ReadJoinRequest(const std::string& key, absl::string_view request);

// The whole answer. `text`: a ticket's, or "no: " and why there is none for this node.
absl::StatusOr<std::string> SealJoinAnswer(const std::string& key, absl::string_view request, const std::string& text);
// Errors: PermissionDenied (another key's, or "no: ..."), DataLoss (not an answer to this request).
absl::StatusOr<JoinTicket> OpenJoinAnswer(const std::string& key, absl::string_view request, absl::string_view answer);

struct FetchedTicket {
  JoinTicket ticket;
  std::string coordinator;    // numeric, with the port: nobody is asked for the name again
  std::string local_address;  // from which it was reached; numeric
};

// Asks `coordinator` ("HOST:PORT") for node `node`'s ticket. A name that is not known yet, a port that refuses and a connection that
// is closed without a word are tried again (a proxy may take connections before the coordinator is up). Blocks the calling thread for
// at most `within`. `give_up` is asked before each try and may be null. Errors: InvalidArgument (no HOST:PORT), PermissionDenied
// (refused: of no use to try again), Unavailable, Cancelled (`give_up` said so).
absl::StatusOr<FetchedTicket> FetchTicket(const std::string& coordinator, const std::string& key, uint32_t node,
                                          absl::Duration within, const std::function<bool()>& give_up = nullptr);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CHANNEL_JOIN_KEY_H_
