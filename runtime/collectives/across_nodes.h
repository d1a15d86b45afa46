// Collectives over several nodes: in shared memory inside a node, over the mesh between nodes.
//
// Every operation is a barrier of the whole world: the ranks of a node exchange their announcements, then at least local rank 0
// hears from every other node, whose ranks have all arrived by then, and the last local step ends the wait of the others. Sums
// have the bits of the same operation on one node (node_partials.h).
//
//   small    fits a slot, and all nodes' partials together are few: local rank 0 of each node sends its node's partials to all
//            others, reduces what it gets, and leaves the result in its staging memory. One round trip.
//   direct   large, and the lanes can read and write the vectors themselves: one rank a node, or a window on all local ranks.
//            Each local rank up to the smallest node's number of ranks carries one lane (wire_plan.h, lane_exchange.h).
//   staged   large, anything else: copied in, reduced into the lanes' partials, exchanged, published by the lanes, copied out;
//            a pipeline whose rounds end in a local step.
//
// What travels depends on the call and on the membership alone, never on where buffers lie: nodes may differ in that.
#ifndef MUSTER_RUNTIME_COLLECTIVES_ACROSS_NODES_H_
#define MUSTER_RUNTIME_COLLECTIVES_ACROSS_NODES_H_

#include <atomic>
#include <cstdint>

#include "absl/status/status.h"
#include "runtime/collectives/network.h"
#include "runtime/collectives/wire_plan.h"
#include "runtime/shm/member.h"
#include "runtime/shm/operation.h"

namespace muster {

// Bytes that each rank gives when ranks make a window or a communicator: a small all-gather under that announcement.
inline constexpr int64_t kWordBytes = static_cast<int64_t>(v1::kFlagPayloadBytes);

// Carries out `operation` on this rank: announces it, selects, runs; on failure tells the other nodes. `callers_inside` as in
// Member::Begin.
absl::Status RunAcrossNodes(Member& member, Network& network, const Operation& operation,
                            const std::atomic<int>* callers_inside);

// --- For the files of this room ---

// One operation as the exchange between nodes sees it.
struct Traffic {
  Exchange kind = Exchange::kAllReduce;
  DataType type = DataType::kUint8;
  ReduceOp op = ReduceOp::kSum;
  int64_t count = 0;  // elements of the vector; of one rank's part for reduce_scatter and all_gather
  int root = 0;
  const NodePartials* partials = nullptr;  // reductions only

  int64_t element_bytes() const { return SizeOf(type); }
  int64_t bytes() const { return count * SizeOf(type); }
  bool by_parts() const { return kind == Exchange::kReduceScatter || kind == Exchange::kAllGather; }
};

// Elements of what each rank brings: the whole vector of all parts for reduce_scatter.
int64_t InputElements(const Traffic& traffic, const Nodes& nodes);

WireCall WireCallOf(const Traffic& traffic, const Nodes& nodes);

// After the calls are known to agree on this node.
absl::Status RunSmall(Member& member, Network& network, const Operation& operation, const Traffic& traffic);
absl::Status RunDirect(Member& member, Network& network, const Operation& operation, const Traffic& traffic);
absl::Status RunStagedAcross(Member& member, Network& network, const Operation& operation, const Traffic& traffic);

// Before the exchange on this node: what this rank brings to a small operation, into its slot.
void BringSmall(Member& member, const Operation& operation, const Traffic& traffic);

}  // namespace muster

#endif  // MUSTER_RUNTIME_COLLECTIVES_ACROSS_NODES_H_
