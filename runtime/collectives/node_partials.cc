#include "runtime/collectives/node_partials.h"

#include <algorithm>

#include "runtime/base/log.h"
#include "runtime/kernels/convert.h"
#include "runtime/kernels/reduce.h"

namespace muster {
namespace {

// Elements that are converted at a time: with a few sources they stay in the first-level cache.
constexpr int64_t kBlock = 1024;

std::vector<std::vector<Partial>> PartialsByRank(int shards, int world_size) {
  std::vector<std::vector<Partial>> by_rank;
  for (int32_t rank = 0; rank < world_size; ++rank) {
    by_rank.push_back(shards == 0 ? std::vector<Partial>{{rank, 1}} : OwnedPartials(shards, world_size, rank));
  }
  return by_rank;
}

// The maximal aligned subtrees of the leaves that ranks [first, end) hold.
std::vector<Partial> SubtreesOf(const std::vector<std::vector<Partial>>& by_rank, int first, int end) {
  const Partial& last = by_rank[static_cast<size_t>(end) - 1].back();
  return AlignedSubtrees(by_rank[static_cast<size_t>(first)].front().first, last.first + last.count);
}

ReducePlan PlanOverNodes(const Nodes& nodes, const std::vector<std::vector<Partial>>& by_rank) {
  std::vector<Partial> all;
  for (int n = 0; n < nodes.count(); ++n) {
    for (const Partial& partial : SubtreesOf(by_rank, nodes.first_rank(n), nodes.first_rank(n + 1))) all.push_back(partial);
  }
  return ReducePlan::ForPartials(all);
}

bool IsHalf(DataType type) { return WireType(type) != type; }

// A partial of an average is a sum: the division comes once, at the end.
ReduceOp PartialOp(ReduceOp op) { return op == ReduceOp::kAvg ? ReduceOp::kSum : op; }

}  // namespace

NodePartials::NodePartials(const Nodes& nodes, int shards) : NodePartials(nodes, PartialsByRank(shards, nodes.world_size())) {}

NodePartials::NodePartials(const Nodes& nodes, const std::vector<std::vector<Partial>>& by_rank)
    : all_(PlanOverNodes(nodes, by_rank)) {
  for (int n = 0; n < nodes.count(); ++n) {
    rows_.push_back(static_cast<int>(SubtreesOf(by_rank, nodes.first_rank(n), nodes.first_rank(n + 1)).size()));
  }
  std::vector<Partial> sources;
  for (int r = nodes.first_rank(nodes.node); r < nodes.first_rank(nodes.node + 1); ++r) {
    sources.insert(sources.end(), by_rank[static_cast<size_t>(r)].begin(), by_rank[static_cast<size_t>(r)].end());
  }
  // A rank's partial lies in one of its node's, whole: both are aligned subtrees, and the node's are maximal.
  size_t source = 0;
  for (const Partial& subtree : SubtreesOf(by_rank, nodes.first_rank(nodes.node), nodes.first_rank(nodes.node + 1))) {
    const size_t first = source;
    while (source < sources.size() && sources[source].first < subtree.first + subtree.count) ++source;
    own_.push_back(ReducePlan::ForPartials({sources.data() + first, source - first}));
    MUSTER_CHECK(own_.back().leaves() == subtree.count, "a node's subtree is made up of its ranks' subtrees");
    first_source_.push_back(first);
  }
  first_source_.push_back(source);
}

int NodePartials::rows_max() const { return *std::max_element(rows_.begin(), rows_.end()); }

void NodePartials::ReduceOwn(std::span<const void* const> sources, int64_t count, DataType type, ReduceOp op, char* rows,
                             int64_t stride_bytes) const {
  std::vector<float> widened;
  std::vector<const void*> wide_sources;
  for (size_t i = 0; i < own_.size(); ++i) {
    const auto mine = sources.subspan(first_source_[i], first_source_[i + 1] - first_source_[i]);
    char* const row = rows + static_cast<int64_t>(i) * stride_bytes;
    if (!IsHalf(type)) {
      void* const destination = row;
      Reduce(own_[i], mine, count, type, PartialOp(op), {&destination, 1});
      continue;
    }
    widened.resize(mine.size() * kBlock);
    for (int64_t first = 0; first < count; first += kBlock) {
      const int64_t elements = std::min(kBlock, count - first);
      wide_sources.clear();
      for (size_t s = 0; s < mine.size(); ++s) {
        float* const wide = widened.data() + s * kBlock;
        WidenToFloat32(type, static_cast<const char*>(mine[s]) + first * SizeOf(type), wide, elements);
        wide_sources.push_back(wide);
      }
      void* const destination = row + first * static_cast<int64_t>(sizeof(float));
      Reduce(own_[i], wide_sources, elements, DataType::kFloat32, PartialOp(op), {&destination, 1});
    }
  }
}

void NodePartials::ReduceAll(std::span<const void* const> partials, int64_t count, DataType type, ReduceOp op,
                             char* destination) const {
  if (!IsHalf(type)) {
    void* const to = destination;
    return Reduce(all_, partials, count, type, op, {&to, 1});
  }
  std::vector<float> sums(static_cast<size_t>(std::min(kBlock, count)));
  std::vector<const void*> sources(partials.size());
  for (int64_t first = 0; first < count; first += kBlock) {
    const int64_t elements = std::min(kBlock, count - first);
    for (size_t s = 0; s < partials.size(); ++s) {
      sources[s] = static_cast<const char*>(partials[s]) + first * static_cast<int64_t>(sizeof(float));
    }
    void* const to = sums.data();
    Reduce(all_, sources, elements, DataType::kFloat32, op, {&to, 1});
    RoundFromFloat32(type, sums.data(), destination + first * SizeOf(type), elements);
  }
}

}  // namespace muster
