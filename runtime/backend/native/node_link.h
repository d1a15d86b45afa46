// What the native backend needs from outside: the session implements it over the agent's socket, tests in memory.
#ifndef MUSTER_RUNTIME_BACKEND_NATIVE_NODE_LINK_H_
#define MUSTER_RUNTIME_BACKEND_NATIVE_NODE_LINK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/base/fd.h"

namespace muster {

// Any thread; calls do not overlap for one window.
class NodeLink {
 public:
  virtual ~NodeLink() = default;

  // Gives this rank's sealed memfd of `bytes` to the local members under the number `window`. Borrows `fd` for the call.
  virtual absl::Status OfferWindow(uint32_t window, int fd, int64_t bytes) = 0;

  // Blocks until every local member has offered `window`; the descriptors by local rank, this rank's own left invalid.
  // Errors: Unavailable (a member is lost), DeadlineExceeded, Aborted.
  virtual absl::StatusOr<std::vector<UniqueFd>> CollectWindow(uint32_t window, absl::Time deadline) = 0;

  // This rank has unmapped `window` of all members. Never blocks.
  virtual void ReleaseWindow(uint32_t window) = 0;

  // Tells the agent whom a failed operation blames. Never blocks.
  virtual void ReportBlame(uint32_t rank, v1::AbortReason reason, uint64_t op_seq, const std::string& message) = 0;

  // What windows of this node may take together, and the file that says so; 0: no limit known.
  virtual int64_t memory_limit_bytes() const = 0;
  virtual const std::string& memory_limit_source() const = 0;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NATIVE_NODE_LINK_H_
