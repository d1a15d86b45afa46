// One collective call, as the algorithms on mapped memory see it.
#ifndef MUSTER_RUNTIME_SHM_OPERATION_H_
#define MUSTER_RUNTIME_SHM_OPERATION_H_

#include <cstdint>
#include <vector>

#include "muster/shards.h"
#include "muster/tensor.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/kernels/tree.h"

namespace muster {

// What a reduction adds up: `rows` arrays of each rank (one, or its OwnedPartials), rank by rank, along a plan.
// Immutable; any thread.
struct Leaves {
  ReducePlan plan;
  std::vector<int> rows;       // by rank
  std::vector<int> first_row;  // by rank: the rows of the ranks before it, added up
  int rows_max = 1;

  static Leaves ForRanks(int ranks);
  static Leaves ForShards(int shards, int ranks);
};

// Everything has been checked. Buffers are borrowed until the operation is done.
struct Operation {
  v1::OpDescriptor what = {};
  const void* input = nullptr;  // all_reduce, broadcast: the same as output
  void* output = nullptr;
  int64_t stride_bytes = 0;        // between the rows of all_reduce_shards
  const Leaves* leaves = nullptr;  // reductions only; borrowed
  int64_t deadline = INT64_MAX;    // MonotonicNanoseconds()

  DataType type() const { return static_cast<DataType>(what.type); }
  ReduceOp op() const { return static_cast<ReduceOp>(what.op); }
  int64_t element_bytes() const { return SizeOf(type()); }
  int64_t row_bytes() const { return what.count * element_bytes(); }
};

// The most bytes any rank contributes: what a flag line or slot must hold. Equal on all ranks that make the same call.
int64_t ContributionBytes(const Operation& operation);

}  // namespace muster

#endif  // MUSTER_RUNTIME_SHM_OPERATION_H_
