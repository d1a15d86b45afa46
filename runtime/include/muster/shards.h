// Which virtual shards a rank owns, and how they group into subtrees of the canonical tree.
#ifndef MUSTER_SHARDS_H_
#define MUSTER_SHARDS_H_

#include <cstdint>
#include <vector>

namespace muster {

// A maximal aligned subtree that one rank owns whole: shards [first, first + count), count a power of two that divides first.
struct Partial {
  int32_t first = 0;
  int32_t count = 0;
  friend bool operator==(const Partial&, const Partial&) = default;
};

// First shard of `rank`; rank r owns [FirstShard(r), FirstShard(r + 1)).
constexpr int32_t FirstShard(int32_t shards, int32_t world_size, int32_t rank) {
  return static_cast<int32_t>(static_cast<int64_t>(rank) * shards / world_size);
}

// The partials of `rank`, in shard order. world_size <= shards gives every rank at least one.
std::vector<Partial> OwnedPartials(int32_t shards, int32_t world_size, int32_t rank);

// The largest number of partials any rank has: the rows a buffer for ShardedTensor needs on every rank.
int32_t PartialsMax(int32_t shards, int32_t world_size);

}  // namespace muster

#endif  // MUSTER_SHARDS_H_
