#include "launcher/process/pod_tokens.h"

#include <fstream>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

absl::StatusOr<std::string> ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(KeySet::kBytesMax + 1, '\0');
  if (file) file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.is_open() || file.bad() || (file.fail() && !file.eof())) {
    return absl::InvalidArgumentError(
        absl::StrCat(path,
                     " cannot be read; the folder holds `jwks` (kubectl get --raw /openid/v1/jwks) and `issuer` (of "
                     "kubectl get --raw /.well-known/openid-configuration)"));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

}  // namespace

absl::StatusOr<ClusterKeys> ReadClusterKeys(const std::string& folder) {
  const std::string keys_path = folder + "/jwks", issuer_path = folder + "/issuer";
  MUSTER_ASSIGN_OR_RETURN(const std::string keys_text, ReadAll(keys_path));
  MUSTER_ASSIGN_OR_RETURN(const std::string issuer_text, ReadAll(issuer_path));
  MUSTER_ASSIGN_OR_RETURN(KeySet keys, KeySet::Parse(keys_path, keys_text));
  std::string issuer(absl::StripAsciiWhitespace(issuer_text));
  if (issuer.empty())
    return absl::InvalidArgumentError(absl::StrCat(issuer_path, " is empty; it holds the cluster's name for itself"));
  return ClusterKeys{std::move(keys), std::move(issuer)};
}

absl::StatusOr<PodIdentity> CheckPodToken(const v1::TokenDemand& demand, absl::string_view token, absl::Time now) {
  if (token.empty()) return absl::InvalidArgumentError("no token of its pod; give its agent --token-file");
  MUSTER_ASSIGN_OR_RETURN(const ClusterKeys cluster, ReadClusterKeys(demand.keys_folder()));
  const TokenRules rules = {.issuer = cluster.issuer, .audience = demand.audience(), .subject = demand.subject()};
  auto identity = CheckToken(cluster.keys, rules, token, now);
  if (!identity.ok()) return absl::Status(identity.status().code(), absl::StrCat("a token ", identity.status().message()));
  return identity;
}

}  // namespace muster
