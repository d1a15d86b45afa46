#include "runtime/shm/operation.h"

#include <algorithm>

namespace muster {
namespace {

Leaves WithRows(ReducePlan plan, std::vector<int> rows) {
  Leaves leaves = {std::move(plan), std::move(rows), {}, 1};
  int before = 0;
  for (int n : leaves.rows) {
    leaves.first_row.push_back(before);
    before += n;
    leaves.rows_max = std::max(leaves.rows_max, n);
  }
  return leaves;
}

}  // namespace

Leaves Leaves::ForRanks(int ranks) {
  return WithRows(ReducePlan::ForLeaves(ranks), std::vector<int>(static_cast<size_t>(ranks), 1));
}

Leaves Leaves::ForShards(int shards, int ranks) {
  std::vector<int> rows;
  for (int rank = 0; rank < ranks; ++rank) rows.push_back(static_cast<int>(OwnedPartials(shards, ranks, rank).size()));
  return WithRows(ReducePlan::ForShards(shards, ranks), std::move(rows));
}

int64_t ContributionBytes(const Operation& operation) {
  if (operation.what.kind != v1::OpKind::kAllReduceShards) return operation.row_bytes();
  return operation.leaves->rows_max * operation.row_bytes();
}

}  // namespace muster
