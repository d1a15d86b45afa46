#include "runtime/kernels/tree.h"

#include "runtime/base/log.h"

namespace muster {

ReducePlan::ReducePlan(std::span<const Partial> partials) {
  std::vector<Partial> stack;
  const int32_t base = partials.empty() ? 0 : partials.front().first;
  for (const Partial& absolute : partials) {
    const Partial partial = {absolute.first - base, absolute.count};
    MUSTER_CHECK(partial.first == leaves_ && partial.count > 0, "the sources of a reduction must follow each other");
    leaves_ += partial.count;
    uint8_t merges = 0;
    stack.push_back(partial);
    while (stack.size() > 1) {
      const Partial newer = stack.back();
      const Partial older = stack[stack.size() - 2];
      if (older.count != newer.count || older.first % (2 * older.count) != 0) break;
      stack.pop_back();
      stack.back() = {older.first, 2 * older.count};
      ++merges;
    }
    merges_.push_back(merges);
    MUSTER_CHECK(stack.size() <= kDepthMax, "a reduction has at most kShardsMax leaves");
  }
  MUSTER_CHECK(!stack.empty(), "a reduction has at least one source");
  merges_.back() += static_cast<uint8_t>(stack.size() - 1);
}

ReducePlan ReducePlan::ForLeaves(int leaves) {
  std::vector<Partial> partials;
  for (int i = 0; i < leaves; ++i) partials.push_back({i, 1});
  return ReducePlan(partials);
}

ReducePlan ReducePlan::ForShards(int32_t shards, int32_t world_size) {
  std::vector<Partial> partials;
  for (int32_t rank = 0; rank < world_size; ++rank) {
    for (const Partial& partial : OwnedPartials(shards, world_size, rank)) partials.push_back(partial);
  }
  return ForPartials(partials);
}

ReducePlan ReducePlan::ForPartials(std::span<const Partial> partials) {
  ReducePlan plan(partials);
  plan.leaf_shaped_ = plan.merges_ == ForLeaves(plan.sources()).merges_;
  return plan;
}

std::vector<Partial> AlignedSubtrees(int32_t first, int32_t end) {
  std::vector<Partial> subtrees;
  while (first < end) {
    int32_t count = 1;
    while (first % (2 * count) == 0 && first + 2 * count <= end) count *= 2;
    subtrees.push_back({first, count});
    first += count;
  }
  return subtrees;
}

}  // namespace muster
