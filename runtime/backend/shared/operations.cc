#include "runtime/backend/shared/operations.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "runtime/base/clock.h"
#include "runtime/base/status.h"
#include "runtime/kernels/reduce.h"

namespace muster {
namespace {

// `copies` of the buffer must be addressable too: the whole of an all_gather, the rows of shards.
absl::Status CheckBuffer(const char* what, const void* data, int64_t count, DataType type, int64_t copies = 1) {
  if (static_cast<int>(type) >= kDataTypes) return absl::InvalidArgumentError(absl::StrCat(what, ": no such data type"));
  if (count < 0) return absl::InvalidArgumentError(absl::StrCat(what, ": count is ", count, ", must not be negative"));
  if (count > std::numeric_limits<int64_t>::max() / SizeOf(type) / copies) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": ", count, " ", Name(type), " are more than memory can hold"));
  }
  if (data == nullptr && count > 0) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": null, but ", count, " ", Name(type), " are asked for"));
  }
  return absl::OkStatus();
}

absl::Status CheckOp(ReduceOp op, DataType type) {
  if (static_cast<int>(op) >= kReduceOps) return absl::InvalidArgumentError("no such reduction");
  if (OpFitsType(op, type)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(Name(op), " of ", Name(type), ": integers have no average; use sum, or a float type"));
}

// `part` may be exactly the own part of `whole`, else the two must lie apart.
absl::Status CheckOverlap(const void* whole, int64_t whole_bytes, const void* part, int64_t part_bytes, int rank) {
  if (part_bytes == 0) return absl::OkStatus();
  const auto w = reinterpret_cast<uintptr_t>(whole);
  const auto p = reinterpret_cast<uintptr_t>(part);
  const bool apart = p + static_cast<uint64_t>(part_bytes) <= w || w + static_cast<uint64_t>(whole_bytes) <= p;
  if (apart || p == w + static_cast<uint64_t>(rank * part_bytes)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the buffers overlap, and the smaller is not rank ", rank, "'s own part of the larger"));
}

absl::Status CheckCounts(const char* large_name, int64_t large, const char* small_name, int64_t small, int ranks,
                         bool same_type) {
  if (!same_type) return absl::InvalidArgumentError("send and receive differ in type");
  if (small <= std::numeric_limits<int64_t>::max() / ranks && large == small * ranks) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(large_name, " holds ", large, " elements; ", ranks, " ranks times ",
                                                 small_name, "'s ", small, " are needed"));
}

Operation Make(v1::OpKind kind, DataType type, int64_t count, absl::Time deadline) {
  Operation operation;
  operation.what.kind = kind;
  operation.what.type = static_cast<uint8_t>(type);
  operation.what.count = count;
  operation.what.window = operation.what.window2 = v1::kPrivateMemory;
  operation.deadline = MonotonicDeadline(deadline);
  return operation;
}

}  // namespace

int64_t Operations::InputBytes(const Operation& operation) const {
  if (operation.what.kind == v1::OpKind::kAllReduceShards) {
    const int own_rows = operation.leaves->rows[static_cast<size_t>(rank_)];
    return (own_rows - 1) * operation.stride_bytes + operation.row_bytes();
  }
  return operation.row_bytes();
}

int64_t Operations::OutputBytes(const Operation& operation) const {
  if (operation.what.kind == v1::OpKind::kAllGather) return operation.row_bytes() * world_size_;
  if (operation.what.kind == v1::OpKind::kReduceScatter) return operation.row_bytes() / world_size_;
  return InputBytes(operation);
}

const Leaves& Operations::LeavesOf(int shards) {
  auto found = shard_leaves_.find(shards);
  if (found == shard_leaves_.end()) found = shard_leaves_.emplace(shards, Leaves::ForShards(shards, world_size_)).first;
  return found->second;
}

absl::StatusOr<Operation> Operations::AllReduce(Tensor buffer, ReduceOp op, absl::Time deadline) {
  MUSTER_RETURN_IF_ERROR(CheckBuffer("all_reduce", buffer.data, buffer.count, buffer.type));
  MUSTER_RETURN_IF_ERROR(CheckOp(op, buffer.type));
  Operation operation = Make(v1::OpKind::kAllReduce, buffer.type, buffer.count, deadline);
  operation.what.op = static_cast<uint8_t>(op);
  operation.input = operation.output = buffer.data;
  operation.leaves = &ranks_leaves_;
  return operation;
}

absl::StatusOr<Operation> Operations::AllReduceShards(ShardedTensor partials, ReduceOp op, absl::Time deadline) {
  if (partials.shards < world_size_ || partials.shards > kShardsMax) {
    return absl::InvalidArgumentError(absl::StrCat(partials.shards, " shards for ", world_size_,
                                                   " ranks: every rank needs one, and ", kShardsMax,
                                                   " are the most; choose another number of shards (--shards) or of ranks"));
  }
  const Leaves& leaves = LeavesOf(partials.shards);
  MUSTER_RETURN_IF_ERROR(CheckBuffer("all_reduce_shards", partials.data, partials.count, partials.type, leaves.rows_max));
  MUSTER_RETURN_IF_ERROR(CheckOp(op, partials.type));
  Operation operation = Make(v1::OpKind::kAllReduceShards, partials.type, partials.count, deadline);
  if (partials.stride_bytes < operation.row_bytes() || partials.stride_bytes % 64 != 0) {
    return absl::InvalidArgumentError(absl::StrCat("stride_bytes is ", partials.stride_bytes,
                                                   ": must be a multiple of 64 and hold ", partials.count, " ",
                                                   Name(partials.type)));
  }
  operation.what.op = static_cast<uint8_t>(op);
  operation.what.root = partials.shards;
  operation.what.stride = partials.stride_bytes;
  operation.input = operation.output = partials.data;
  operation.stride_bytes = partials.stride_bytes;
  operation.leaves = &leaves;
  return operation;
}

absl::StatusOr<Operation> Operations::Broadcast(Tensor buffer, int root, absl::Time deadline) {
  MUSTER_RETURN_IF_ERROR(CheckBuffer("broadcast", buffer.data, buffer.count, buffer.type));
  if (root < 0 || root >= world_size_) {
    return absl::InvalidArgumentError(absl::StrCat("root ", root, " is not one of the ", world_size_, " ranks"));
  }
  Operation operation = Make(v1::OpKind::kBroadcast, buffer.type, buffer.count, deadline);
  operation.what.root = root;
  operation.input = operation.output = buffer.data;
  return operation;
}

absl::StatusOr<Operation> Operations::AllGather(ConstTensor send, Tensor receive, absl::Time deadline) {
  MUSTER_RETURN_IF_ERROR(CheckBuffer("all_gather: send", send.data, send.count, send.type, world_size_));
  MUSTER_RETURN_IF_ERROR(CheckBuffer("all_gather: receive", receive.data, receive.count, receive.type));
  MUSTER_RETURN_IF_ERROR(CheckCounts("receive", receive.count, "send", send.count, world_size_, send.type == receive.type));
  MUSTER_RETURN_IF_ERROR(CheckOverlap(receive.data, receive.bytes(), send.data, send.bytes(), rank_));
  Operation operation = Make(v1::OpKind::kAllGather, send.type, send.count, deadline);
  operation.input = send.data;
  operation.output = receive.data;
  return operation;
}

absl::StatusOr<Operation> Operations::ReduceScatter(ConstTensor send, Tensor receive, ReduceOp op, absl::Time deadline) {
  MUSTER_RETURN_IF_ERROR(CheckBuffer("reduce_scatter: send", send.data, send.count, send.type));
  MUSTER_RETURN_IF_ERROR(CheckBuffer("reduce_scatter: receive", receive.data, receive.count, receive.type));
  MUSTER_RETURN_IF_ERROR(CheckOp(op, send.type));
  MUSTER_RETURN_IF_ERROR(CheckCounts("send", send.count, "receive", receive.count, world_size_, send.type == receive.type));
  MUSTER_RETURN_IF_ERROR(CheckOverlap(send.data, send.bytes(), receive.data, receive.bytes(), rank_));
  Operation operation = Make(v1::OpKind::kReduceScatter, send.type, send.count, deadline);
  operation.what.op = static_cast<uint8_t>(op);
  operation.input = send.data;
  operation.output = receive.data;
  operation.leaves = &ranks_leaves_;
  return operation;
}

Operation Operations::Barrier(absl::Time deadline) { return Make(v1::OpKind::kBarrier, DataType::kUint8, 0, deadline); }

}  // namespace muster
