// Tokens of pods, as a coordinator asks for them.
#ifndef MUSTER_LAUNCHER_PROCESS_POD_TOKENS_H_
#define MUSTER_LAUNCHER_PROCESS_POD_TOKENS_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "launcher/identity/token.h"
#include "muster/v1/launch.pb.h"

namespace muster {

// Reads the cluster's keys and name from the demand's folder. Errors: InvalidArgument with file and remedy.
struct ClusterKeys {
  KeySet keys;
  std::string issuer;
};
absl::StatusOr<ClusterKeys> ReadClusterKeys(const std::string& folder);

// Whose token it is. Errors: those of ReadClusterKeys and CheckToken, as sentences about "a token".
absl::StatusOr<PodIdentity> CheckPodToken(const v1::TokenDemand& demand, absl::string_view token, absl::Time now);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_POD_TOKENS_H_
