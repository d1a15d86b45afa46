// The order in which partial results are combined: the canonical pairwise tree, as a list of steps.
#ifndef MUSTER_RUNTIME_KERNELS_TREE_H_
#define MUSTER_RUNTIME_KERNELS_TREE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "muster/shards.h"

namespace muster {

// Combines sources, given in leaf order, along Tree(leaves) of muster/tensor.h. Each source is a whole subtree of it.
//
// The steps run on a stack, like adding one to a binary counter: for each source i in order, push it, then merge the two
// topmost values merges()[i] times (older op newer). Two equally large neighbours merge as soon as both are there; what remains
// after the last source is folded from the right. tests/property/kernels compares this with the recursive definition.
//
// Immutable; any thread.
class ReducePlan {
 public:
  // The stack's depth never exceeds this: log2(kShardsMax) + 1.
  static constexpr int kDepthMax = 13;

  // One source a leaf: a plain reduction over `leaves` ranks, 1 <= leaves <= kShardsMax.
  static ReducePlan ForLeaves(int leaves);

  // Sources are the OwnedPartials of rank 0, then of rank 1, and so on; 1 <= world_size <= shards <= kShardsMax.
  static ReducePlan ForShards(int32_t shards, int32_t world_size);

  // Sources are `partials`, which follow each other in leaf order. Where they are a part of a larger tree, they make up one
  // aligned subtree of it, and the plan gives that subtree's value.
  static ReducePlan ForPartials(std::span<const Partial> partials);

  int sources() const { return static_cast<int>(merges_.size()); }
  int32_t leaves() const { return leaves_; }  // what kAvg divides by
  std::span<const uint8_t> merges() const { return merges_; }

  // Whether the steps are those of ForLeaves(sources()), as when every source is equally large.
  bool leaf_shaped() const { return leaf_shaped_; }

 private:
  explicit ReducePlan(std::span<const Partial> partials);

  std::vector<uint8_t> merges_;
  int32_t leaves_ = 0;
  bool leaf_shaped_ = true;
};

// The maximal aligned subtrees of leaves [first, end), in leaf order.
std::vector<Partial> AlignedSubtrees(int32_t first, int32_t end);

}  // namespace muster

#endif  // MUSTER_RUNTIME_KERNELS_TREE_H_
