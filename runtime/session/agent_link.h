// What communicators need of the agent and of other nodes, over the session's line (NodeLink).
#ifndef MUSTER_RUNTIME_SESSION_AGENT_LINK_H_
#define MUSTER_RUNTIME_SESSION_AGENT_LINK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "runtime/backend/native/node_link.h"
#include "runtime/base/mutex.h"
#include "runtime/rendezvous/agent_line.h"
#include "runtime/session/table/session_table.h"
#include "runtime/session/window_inbox.h"
#include "runtime/transport/mesh.h"

namespace muster {

// The meshes of a session's communicators: all say farewell when the process exits without having destroyed them. Any thread.
class MeshList {
 public:
  void Add(Mesh* mesh);
  void Remove(Mesh* mesh);
  void LeaveAll(uint32_t job_rank);

 private:
  Mutex mutex_;
  std::set<Mesh*> meshes_ ABSL_GUARDED_BY(mutex_);
};

// Borrowed from the session, which outlives all links.
struct AgentLinkParts {
  AgentLine* line = nullptr;
  WindowInbox* inbox = nullptr;
  MeshList* meshes = nullptr;
  v1::ControlHeader* control = nullptr;  // the generation's
  const Membership* membership = nullptr;
  std::string job_id;  // 16 bytes
  std::function<void(session::CollectiveFailed failed)> blame;
};

class AgentLink : public NodeLink {
 public:
  // Of the communicator of all ranks.
  explicit AgentLink(AgentLinkParts parts);
  ~AgentLink() override;

  absl::Status OfferWindow(uint32_t window, int fd, int64_t bytes) override;
  absl::StatusOr<std::vector<UniqueFd>> CollectWindow(uint32_t window, absl::Time deadline) override;
  absl::StatusOr<UniqueFd> CollectControl(absl::Time deadline) override;
  void ReleaseWindow(uint32_t window) override;
  void ReportBlame(uint32_t rank, v1::AbortReason reason, uint64_t op_seq, const std::string& message) override;
  int64_t memory_limit_bytes() const override { return parts_.membership->memory_limit_bytes; }
  const std::string& memory_limit_source() const override { return parts_.membership->memory_limit_source; }
  std::unique_ptr<NodeLink> Open(uint64_t number, std::vector<uint32_t> seats, int local_rank) override;
  absl::StatusOr<UniqueFd> Listen(uint16_t* port) override;
  // A port of 0: where the agents' table says that the rank takes connections.
  absl::StatusOr<std::unique_ptr<Mesh>> Connect(UniqueFd listener, const std::vector<MeshPlace>& peers, absl::Time deadline,
                                                absl::FunctionRef<bool()> interrupted) override;
  void MeshEnds() override;

 private:
  AgentLink(AgentLinkParts parts, uint64_t number, std::vector<uint32_t> seats, int local_rank);

  const AgentLinkParts parts_;
  const uint64_t number_;
  const std::vector<uint32_t> seats_;  // the generation's local ranks, by local rank
  const int local_rank_;
  Mesh* mesh_ = nullptr;  // the communicator's, while it lives
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_SESSION_AGENT_LINK_H_
