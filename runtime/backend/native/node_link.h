// What the native backend needs from outside: the session implements it over the agent's socket, tests in memory.
#ifndef MUSTER_RUNTIME_BACKEND_NATIVE_NODE_LINK_H_
#define MUSTER_RUNTIME_BACKEND_NATIVE_NODE_LINK_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/base/fd.h"
#include "runtime/transport/mesh.h"

namespace muster {

// The number under which a communicator's control memory is offered, by its local rank 0.
inline constexpr uint32_t kControlWindow = 0xfffffffe;

// One communicator's; ranks are its local ones unless said otherwise. Any thread; calls do not overlap for one window.
class NodeLink {
 public:
  virtual ~NodeLink() = default;

  // Gives this rank's sealed memfd of `bytes` to the local members under the number `window`. Borrows `fd` for the call.
  virtual absl::Status OfferWindow(uint32_t window, int fd, int64_t bytes) = 0;

  // Blocks until every local member has offered `window`; the descriptors by local rank, this rank's own left invalid.
  // Errors: Unavailable (a member is lost), DeadlineExceeded, Aborted.
  virtual absl::StatusOr<std::vector<UniqueFd>> CollectWindow(uint32_t window, absl::Time deadline) = 0;
  // The same for kControlWindow, which local rank 0 alone offers.
  virtual absl::StatusOr<UniqueFd> CollectControl(absl::Time deadline) = 0;

  // This rank has unmapped `window` of all members. Never blocks.
  virtual void ReleaseWindow(uint32_t window) = 0;

  // Tells the agent whom (a rank of the job) a failed operation blames, and where this link is of a communicator of some ranks that
  // is broken alone (v1::EndsGeneration), that the job may go on. Never blocks.
  virtual void ReportBlame(uint32_t rank, v1::AbortReason reason, uint64_t op_seq, const std::string& message) = 0;

  // What windows of this node may take together, and the file that says so; 0: no limit known.
  virtual int64_t memory_limit_bytes() const = 0;
  virtual const std::string& memory_limit_source() const = 0;

  // --- For communicators of some ranks ---

  // The link of communicator `number` (not 0, the same on all its ranks), whose local members are the generation's local ranks
  // `seats`, this one `local_rank` of them. What they offer from now on is kept for it until it is destroyed.
  virtual std::unique_ptr<NodeLink> Open(uint64_t number, std::vector<uint32_t> seats, int local_rank) = 0;

  // A socket, bound and not listening, by which ranks on other nodes reach this one, and its port.
  virtual absl::StatusOr<UniqueFd> Listen(uint16_t* port) = 0;

  // Connects this communicator's rank with `peers`, who do the same. As Mesh::Connect. Once.
  struct MeshPlace {
    int job_rank = 0;
    uint16_t port = 0;
  };
  virtual absl::StatusOr<std::unique_ptr<Mesh>> Connect(UniqueFd listener, const std::vector<MeshPlace>& peers,
                                                        absl::Time deadline, absl::FunctionRef<bool()> interrupted) = 0;
  // The mesh is about to be destroyed, and has said its farewell. Until then it says one when the process exits.
  virtual void MeshEnds() = 0;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NATIVE_NODE_LINK_H_
