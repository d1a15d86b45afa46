// The job's own certificate authority and its one-time join tokens. Keys stay in memory.
#ifndef MUSTER_LAUNCHER_CHANNEL_AUTHORITY_H_
#define MUSTER_LAUNCHER_CHANNEL_AUTHORITY_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace muster {

// What an agent is given to join with, by a descriptor or a file, never in arguments or environment: whom to trust and the right
// to enrol once. As text it is one line of printable characters.
struct JoinTicket {
  std::string token;          // 32 bytes
  std::string authority_pem;  // the job's authority: what the server must prove
  std::string job_id;         // 16 bytes
};
std::string ToText(const JoinTicket& ticket);
absl::StatusOr<JoinTicket> JoinTicketFromText(const std::string& text);  // InvalidArgument: not a ticket, or cut

// Threads: any.
class Authority {
 public:
  // P-256, made now. Certificates are valid from five minutes ago, for ten years.
  static absl::StatusOr<std::unique_ptr<Authority>> Create(const std::string& job_id);
  virtual ~Authority() = default;

  // For the agent that shall be `node`. Good once, until `expires_after` has passed.
  virtual JoinTicket MakeTicket(uint32_t node, absl::Duration expires_after) = 0;
  // Errors: PermissionDenied (unknown, used before, or expired: says which).
  virtual absl::StatusOr<uint32_t> TakeToken(const std::string& token) = 0;

  // A certificate for the agent's key (URI:muster://JOB/agent/NODE). Errors: InvalidArgument (not a P-256 key).
  virtual absl::StatusOr<std::string> SignAgent(uint32_t node, const std::string& public_key_der) = 0;
  // Which node a certificate of ours names. Errors: PermissionDenied (another authority's, expired, another job's).
  virtual absl::StatusOr<uint32_t> CheckAgent(const std::string& certificate_pem) = 0;

  virtual const std::string& certificate_pem() const = 0;         // the authority's
  virtual const std::string& server_certificate_pem() const = 0;  // for kServerName
  virtual const std::string& server_key_pem() const = 0;

 protected:
  Authority() = default;
};
inline constexpr char kServerName[] = "coordinator.muster.internal";

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CHANNEL_AUTHORITY_H_
