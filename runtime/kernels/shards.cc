#include "muster/shards.h"

#include <algorithm>

#include "runtime/kernels/tree.h"

namespace muster {

std::vector<Partial> OwnedPartials(int32_t shards, int32_t world_size, int32_t rank) {
  return AlignedSubtrees(FirstShard(shards, world_size, rank), FirstShard(shards, world_size, rank + 1));
}

int32_t PartialsMax(int32_t shards, int32_t world_size) {
  int32_t rows = 0;
  for (int32_t rank = 0; rank < world_size; ++rank) {
    rows = std::max(rows, static_cast<int32_t>(OwnedPartials(shards, world_size, rank).size()));
  }
  return rows;
}

}  // namespace muster
