#include "muster/shards.h"

#include <algorithm>

namespace muster {

std::vector<Partial> OwnedPartials(int32_t shards, int32_t world_size, int32_t rank) {
  std::vector<Partial> partials;
  const int32_t end = FirstShard(shards, world_size, rank + 1);
  for (int32_t first = FirstShard(shards, world_size, rank); first < end;) {
    int32_t count = 1;
    while (first % (2 * count) == 0 && first + 2 * count <= end) count *= 2;
    partials.push_back({first, count});
    first += count;
  }
  return partials;
}

int32_t PartialsMax(int32_t shards, int32_t world_size) {
  int32_t rows = 0;
  for (int32_t rank = 0; rank < world_size; ++rank) {
    rows = std::max(rows, static_cast<int32_t>(OwnedPartials(shards, world_size, rank).size()));
  }
  return rows;
}

}  // namespace muster
