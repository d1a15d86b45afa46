// The key by which an agent proves, in every stream, that it is the one its certificate names.
#ifndef MUSTER_LAUNCHER_CHANNEL_AGENT_KEY_H_
#define MUSTER_LAUNCHER_CHANNEL_AGENT_KEY_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace muster {

// P-256. Threads: any.
class AgentKey {
 public:
  static absl::StatusOr<std::unique_ptr<AgentKey>> Create();
  virtual ~AgentKey() = default;

  // Signs the answer to a stream's challenge: ECDSA-SHA256 over "muster stream" | job_id | nonce, DER.
  virtual absl::StatusOr<std::string> SignChallenge(const std::string& job_id, const std::string& nonce) const = 0;

  virtual const std::string& public_key_der() const = 0;   // SubjectPublicKeyInfo
  virtual const std::string& private_key_pem() const = 0;  // for TLS, in this process

 protected:
  AgentKey() = default;
};

// Errors: PermissionDenied (not by the certificate's key, or over something else), InvalidArgument (no certificate).
absl::Status CheckChallengeSignature(const std::string& certificate_pem, const std::string& job_id, const std::string& nonce,
                                     const std::string& signature);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CHANNEL_AGENT_KEY_H_
