// A communicator's hold on the other nodes: its mesh, and what is kept between operations.
#ifndef MUSTER_RUNTIME_COLLECTIVES_NETWORK_H_
#define MUSTER_RUNTIME_COLLECTIVES_NETWORK_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "runtime/collectives/node_partials.h"
#include "runtime/collectives/nodes.h"
#include "runtime/shm/failure.h"
#include "runtime/shm/member.h"
#include "runtime/transport/mesh.h"

namespace muster {

// Memory that grows to what was once needed and is not cleared.
class Scratch {
 public:
  char* Take(int64_t bytes) {
    if (bytes > bytes_) {
      data_.reset(new char[static_cast<size_t>(bytes)]);
      bytes_ = bytes;
    }
    return data_.get();
  }

 private:
  std::unique_ptr<char[]> data_;
  int64_t bytes_ = 0;
};

// Used by the thread that runs the operation; Tell by any. Buffers of transfers are owned here, so that an operation that fails
// may return while the mesh still knows them.
class Network {
 public:
  // `mesh` is null on a rank beyond the lanes.
  //
  // Deadlines come at the same time on all ranks. Who waits for another node waits `outer_wait_nanoseconds` longer, and who waits for a
  // local rank that may do so twice as much: the rank that is nearest to the missing one is the first to say whom it misses.
  Network(Nodes nodes, std::unique_ptr<Mesh> mesh, int64_t outer_wait_nanoseconds)
      : nodes_(std::move(nodes)), outer_wait_nanoseconds_(outer_wait_nanoseconds), mesh_(std::move(mesh)) {}

  const Nodes& nodes() const { return nodes_; }
  Mesh* mesh() const { return mesh_.get(); }
  int64_t outer_wait_nanoseconds() const { return outer_wait_nanoseconds_; }
  // The rank on `node` that carries the same lane as this one, as the mesh and errors call it: its rank in the job.
  int PeerOn(int node, const Member& member) const { return member.JobRank(nodes_.first_rank(node) + member.rank()); }

  // `shards` 0: a leaf a rank.
  const NodePartials& partials(int shards);

  // Between Member::Arrive, and AllowMoreTime(2 * outer_wait_nanoseconds()) after it, and the operation's end.
  //
  // Moves bytes until `ready`; a failure of the mesh, or of this node meanwhile, becomes the member's. `awaited` says which
  // rank had not sent, for a deadline.
  absl::Status Progress(Member& member, absl::FunctionRef<bool()> ready, absl::FunctionRef<int()> awaited);
  // Moves what can be moved at once.
  absl::Status Poll(Member& member);

  // Tells the other nodes, once, why this one can do no more.
  void Tell(const Failure& failure, uint32_t job_rank);
  // Tells them that this rank leaves in good order.
  void Leave(uint32_t job_rank);

  // --- The first message of an operation, each lane to its peers: what this node's ranks called ---

  void PostCalls(Member& member);
  bool CallsAreHere() const;
  // The lowest rank whose calls are not here; -1 if none.
  int AwaitedCalls(const Member& member) const;
  // After CallsAreHere(). Errors: InvalidArgument when they differ.
  absl::Status CheckCalls(Member& member);

  // --- Buffers of the algorithms ---

  Scratch memory;
  std::vector<MeshTransfer> transfers;

 private:
  static constexpr size_t kCallsMax = 3;
  // On the wire, native byte order (the HELLO of the mesh says which).
  struct NodeCalls {
    uint64_t digest = 0;  // 0: the ranks of the node differ
    uint32_t calls = 0;
    uint32_t buffer_bytes = 0;  // a slot's and a staging buffer's: they decide which algorithm is taken
    Call call[kCallsMax] = {};
  };
  static_assert(sizeof(Call) == 56 && sizeof(NodeCalls) == 184);

  int64_t DeadlineOf(const Member& member) const;
  absl::Status FailWith(Member& member, const MeshFailure& failure, absl::FunctionRef<int()> awaited);

  const Nodes nodes_;
  const int64_t outer_wait_nanoseconds_;
  std::map<int, NodePartials> partials_;  // by shards; never erased, so addresses stay
  NodeCalls own_calls_;
  std::vector<NodeCalls> calls_;  // by node
  std::vector<MeshTransfer> calls_sent_;
  std::vector<MeshTransfer> calls_received_;
  std::atomic<bool> told_{false};
  const std::unique_ptr<Mesh> mesh_;  // last: it borrows the buffers above until it is destroyed
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_COLLECTIVES_NETWORK_H_
