// What travels between nodes in one large operation: a pure function of the call and the membership.
//
// The operation is cut into chunks, a chunk into one part for each lane (the local rank of that number carries it, on every
// node), and a lane's part into pieces, each owned by a node. In every chunk pieces go up to their owners and results down from
// them:
//   all_reduce       up: every node's partials of a piece to its owner, which reduces them; down: the result to all others
//   reduce_scatter   up only; a node owns the parts of its ranks
//   all_gather       down only; a node owns the parts of its ranks
//   broadcast        the root's node sends each other node a piece; down: these to each other
// so with N nodes one sends and receives 2(N-1)/N of the vector for an all_reduce: reduce-scatter and all-gather, pairwise
// (Patarasuk and Yuan, J. Parallel Distrib. Comput. 69 (2009) 117-124, give the bound).
#ifndef MUSTER_RUNTIME_COLLECTIVES_WIRE_PLAN_H_
#define MUSTER_RUNTIME_COLLECTIVES_WIRE_PLAN_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "runtime/collectives/nodes.h"
#include "runtime/shm/split.h"

namespace muster {

enum class Exchange { kAllReduce, kReduceScatter, kAllGather, kBroadcast };

struct WireCall {
  Exchange kind = Exchange::kAllReduce;
  int64_t count = 0;          // elements of the vector; of one rank's part for reduce_scatter and all_gather
  int64_t element_bytes = 0;  // of results
  int64_t wire_bytes = 0;     // an element of a partial
  std::vector<int> rows;      // by node: partials of each piece that go up
  int root_node = 0;          // broadcast
};

// Immutable. Elements are counted in the whole vector, of all ranks' parts where there are such. `node`, `owner`: node numbers.
class WirePlan {
 public:
  WirePlan(const Nodes& nodes, WireCall call);

  const WireCall& call() const { return call_; }
  int64_t chunks() const { return chunks_; }
  int64_t piece_elements_max() const { return piece_max_; }

  // The nodes that own pieces; and, of these, those for whose pieces `node` has something to give, and those whose results
  // it wants.
  const std::vector<int>& owners() const { return owners_; }
  bool Gives(int node, int owner) const;
  bool Wants(int node, int owner) const;
  // Whether `node` sends `owner` something of its piece, and whether `owner` sends `node` the result.
  bool SendsUp(int node, int owner) const { return node != owner && call_.kind != Exchange::kAllGather && Gives(node, owner); }
  bool SendsDown(int owner, int node) const;

  int64_t PieceElements(int64_t chunk, int lane, int owner) const;
  int64_t UpBytes(int64_t chunk, int lane, int node, int owner) const {
    return PieceElements(chunk, lane, owner) * call_.rows[static_cast<size_t>(node)] * call_.wire_bytes;
  }
  int64_t DownBytes(int64_t chunk, int lane, int owner) const {
    return PieceElements(chunk, lane, owner) * call_.element_bytes;
  }

  // Elements [begin, end) of a piece, as runs of the vector: `visit(first, count, offset)`, `offset` counted from the piece's
  // beginning. A run lies within one rank's part.
  void ForEachRun(int64_t chunk, int lane, int owner, int64_t begin, int64_t end,
                  absl::FunctionRef<void(int64_t first, int64_t count, int64_t offset)> visit) const;

 private:
  bool by_parts() const { return call_.kind == Exchange::kReduceScatter || call_.kind == Exchange::kAllGather; }
  int64_t OwnerIndex(int owner) const;
  Range PieceOf(int64_t chunk, int lane, int owner) const;

  const Nodes nodes_;
  const WireCall call_;
  std::vector<int> owners_;
  int64_t chunk_ = 0;  // elements of the vector in one chunk; of each part for reduce_scatter and all_gather
  int64_t chunks_ = 0;
  int64_t piece_max_ = 0;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_COLLECTIVES_WIRE_PLAN_H_
