// A token of a service account: what the API server of Kubernetes signs for one pod, and what must stand in it to be believed.
//
// Nobody is asked: the server's keys are there as a text. Without asking, a token is good until it expires, also when its pod has gone
// meanwhile; projected tokens live an hour unless the manifest says otherwise.
// Source: RFC 7519 (the token), RFC 7515 (its form), RFC 8725 (what to be strict about); kubernetes.io, "Managing Service Accounts"
// (the claims of a bound token).
#ifndef MUSTER_LAUNCHER_IDENTITY_TOKEN_H_
#define MUSTER_LAUNCHER_IDENTITY_TOKEN_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "launcher/identity/key_set.h"

namespace muster {

struct TokenRules {
  std::string issuer;                         // the cluster's own name for itself
  std::string audience;                       // for whom the token was made; it may be made for others too
  std::string subject;                        // "system:serviceaccount:NAMESPACE:NAME"
  absl::Duration leeway = absl::Seconds(30);  // how far clocks may be apart
};

// What a token has said and was believed.
struct PodIdentity {
  std::string pod, pod_uid;
  std::string node;  // empty: Kubernetes did not say (before 1.29)
  absl::Time expires;
};

inline constexpr size_t kTokenBytesMax = 16 << 10;

// Errors: InvalidArgument (no token at all: its form), PermissionDenied (a token, and which claim is not as it must be, or whose signature is
// not the cluster's), NotFound (the key is not in the set), Unimplemented (an algorithm or a "crit" that is not known). The message
// continues "a token "; it has nothing of the token but names that it claims.
absl::StatusOr<PodIdentity> CheckToken(const KeySet& keys, const TokenRules& rules, absl::string_view token, absl::Time now);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_IDENTITY_TOKEN_H_
