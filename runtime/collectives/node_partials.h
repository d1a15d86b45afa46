// What nodes send each other of a reduction: one partial for each maximal aligned subtree of the canonical tree whose leaves a
// node holds all. The partials of all nodes, combined along the rest of the tree, have the bits of a reduction on one node.
#ifndef MUSTER_RUNTIME_COLLECTIVES_NODE_PARTIALS_H_
#define MUSTER_RUNTIME_COLLECTIVES_NODE_PARTIALS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "muster/tensor.h"
#include "runtime/collectives/nodes.h"
#include "runtime/kernels/tree.h"

namespace muster {

// 16-bit floats travel as float32, so that one rounding remains; all others as themselves.
constexpr DataType WireType(DataType type) {
  return type == DataType::kBFloat16 || type == DataType::kFloat16 ? DataType::kFloat32 : type;
}

// Immutable.
class NodePartials {
 public:
  // The leaves are `shards` shards, or one a rank where that is 0. The sources of a node are its ranks' leaves or OwnedPartials.
  NodePartials(const Nodes& nodes, int shards);

  // Partials of node `n`, and of the largest.
  int rows(int n) const { return rows_[static_cast<size_t>(n)]; }
  int rows_max() const;

  // This node's partials over `count` elements of `type`: row i at `rows` + i * stride_bytes, elements of WireType(type).
  // `sources` are those of this node's ranks, in order.
  void ReduceOwn(std::span<const void* const> sources, int64_t count, DataType type, ReduceOp op, char* rows,
                 int64_t stride_bytes) const;

  // The whole tree, from the partials of all nodes in leaf order, to `destination`.
  void ReduceAll(std::span<const void* const> partials, int64_t count, DataType type, ReduceOp op, char* destination) const;

 private:
  NodePartials(const Nodes& nodes, const std::vector<std::vector<Partial>>& by_rank);

  std::vector<int> rows_;             // by node
  std::vector<ReducePlan> own_;       // by this node's partials
  std::vector<size_t> first_source_;  // by this node's partials; at the end the number of sources
  ReducePlan all_;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_COLLECTIVES_NODE_PARTIALS_H_
