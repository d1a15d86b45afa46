#include "runtime/shm/one_shot.h"

#include <cstring>

#include "absl/container/inlined_vector.h"
#include "runtime/kernels/reduce.h"

namespace muster {
namespace {

// Whether this rank's own contribution is read by anybody.
bool Contributes(const Member& member, const Operation& operation) {
  switch (operation.what.kind) {
    case v1::OpKind::kBarrier:
      return false;
    case v1::OpKind::kBroadcast:
      return member.rank() == operation.what.root;
    default:
      return operation.row_bytes() > 0;
  }
}

void ReduceFrom(const Operation& operation, absl::FunctionRef<char*(int)> place, int64_t offset, int64_t count) {
  absl::InlinedVector<const void*, 16> sources;
  for (size_t r = 0; r < operation.leaves->rows.size(); ++r) {
    const char* base = place(static_cast<int>(r)) + offset;
    for (int row = 0; row < operation.leaves->rows[r]; ++row) sources.push_back(base + row * operation.row_bytes());
  }
  void* const destination = operation.output;
  Reduce(operation.leaves->plan, sources, count, operation.type(), operation.op(), {&destination, 1});
}

}  // namespace

void Contribute(const Member& member, const Operation& operation, char* own) {
  if (!Contributes(member, operation)) return;
  const size_t rank = static_cast<size_t>(member.rank());
  const int rows = operation.what.kind == v1::OpKind::kAllReduceShards ? operation.leaves->rows[rank] : 1;
  const char* input = static_cast<const char*>(operation.input);
  for (int row = 0; row < rows; ++row) {
    std::memcpy(own + row * operation.row_bytes(), input + row * operation.stride_bytes,
                static_cast<size_t>(operation.row_bytes()));
  }
}

void ComputeFromAll(const Member& member, const Operation& operation, absl::FunctionRef<char*(int)> place) {
  const int64_t bytes = operation.row_bytes();
  if (bytes == 0) return;
  switch (operation.what.kind) {
    case v1::OpKind::kAllReduce:
    case v1::OpKind::kAllReduceShards:
      ReduceFrom(operation, place, 0, operation.what.count);
      break;
    case v1::OpKind::kReduceScatter: {
      const int64_t part = operation.what.count / member.ranks();
      ReduceFrom(operation, place, member.rank() * part * operation.element_bytes(), part);
      break;
    }
    case v1::OpKind::kBroadcast:
      if (member.rank() != operation.what.root) {
        std::memcpy(operation.output, place(operation.what.root), static_cast<size_t>(bytes));
      }
      break;
    case v1::OpKind::kAllGather:
      for (int r = 0; r < member.ranks(); ++r) {
        std::memcpy(static_cast<char*>(operation.output) + r * bytes, place(r), static_cast<size_t>(bytes));
      }
      break;
    default:
      break;
  }
}

}  // namespace muster
