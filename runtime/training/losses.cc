#include "runtime/training/losses.h"

#include <vector>

#include "muster/shards.h"
#include "runtime/base/status.h"
#include "runtime/training/fold.h"

namespace muster {

absl::StatusOr<Loss> SumLosses(Communicator& communicator, int32_t shards, std::span<const Loss> leaves, absl::Time deadline) {
  constexpr int64_t kRowBytes = 64;
  struct alignas(kRowBytes) Row {
    double numbers[kRowBytes / sizeof(double)] = {};  // the sum, the weight
  };
  const int world_size = communicator.world_size();
  const int32_t first_shard = FirstShard(shards, world_size, communicator.rank());
  std::vector<Row> rows(PartialsMax(shards, world_size));
  size_t row = 0;
  for (const Partial& partial : OwnedPartials(shards, world_size, communicator.rank())) {
    std::vector<double> sums, weights;
    for (int32_t shard = partial.first; shard < partial.first + partial.count; ++shard) {
      sums.push_back(leaves[shard - first_shard].sum);
      weights.push_back(static_cast<double>(leaves[shard - first_shard].weight));
    }
    rows[row].numbers[0] = TreeSum(sums);
    rows[row].numbers[1] = TreeSum(weights);
    ++row;
  }
  const ShardedTensor partials{rows.data(), 2, kRowBytes, DataType::kFloat64, shards};
  MUSTER_RETURN_IF_ERROR(communicator.AllReduceShards(partials, ReduceOp::kSum, deadline));
  return Loss{rows[0].numbers[0], static_cast<int64_t>(rows[0].numbers[1])};
}

}  // namespace muster
