#include "runtime/backend/nccl/nccl_staging.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/backend/nccl/wire_values.h"
#include "runtime/base/mutex.h"
#include "runtime/base/status.h"
#include "runtime/kernels/convert.h"
#include "runtime/kernels/reduce.h"

namespace muster {
namespace {

// Of the largest type, and what makes copies fast.
constexpr int64_t kAlignment = 64;

// The most elements of `size` bytes that `parts` equal parts of the scratch memory hold.
int64_t PieceMax(int64_t scratch_bytes, int64_t parts, int64_t size) {
  const int64_t part = scratch_bytes / parts;
  return std::max<int64_t>(1, (part >= kAlignment ? part / kAlignment * kAlignment : part) / size);
}

}  // namespace

NcclStaging::NcclStaging(NcclApi& nccl, CudaApi& cuda, NcclStream& stream, int rank, int ranks, int64_t scratch_bytes)
    : nccl_(nccl),
      cuda_(cuda),
      stream_(stream),
      rank_(rank),
      ranks_(ranks),
      // An element of each rank and one more, or the rows of a rank's shards, must find room.
      scratch_bytes_(std::max<int64_t>(scratch_bytes, kAlignment * std::max(ranks + 1, 2 * ReducePlan::kDepthMax))) {}

int NcclStaging::Open() {
  void* memory = nullptr;
  if (const int code = cuda_.AllocateHost(&memory, scratch_bytes_); code != kCudaOk) return code;
  pinned_ = static_cast<char*>(memory);
  if (const int code = cuda_.Allocate(&memory, scratch_bytes_); code != kCudaOk) return code;
  device_ = static_cast<char*>(memory);
  return kCudaOk;
}

void NcclStaging::Close(bool must_end) {
  if (must_end) {  // a copy that hangs may still read and write: all of it stays where it is
    static auto& mutex = *new Mutex;
    static auto& kept = *new std::vector<std::vector<char>>;
    MutexLock lock(mutex);
    kept.push_back(std::move(raw_));
    return;
  }
  if (device_ != nullptr) cuda_.Free(device_);
  if (pinned_ != nullptr) cuda_.FreeHost(pinned_);
  device_ = pinned_ = nullptr;
}

// --- Buffers ---

absl::Status NcclStaging::Find(const void* data, Buffer* buffer, const Operation& operation) {
  MemoryKind kind = MemoryKind::kHost;
  int device = 0;
  MUSTER_RETURN_IF_ERROR(stream_.Check(cuda_.KindOf(data, &kind, &device), operation));
  *buffer = {static_cast<char*>(const_cast<void*>(data)), kind == MemoryKind::kDevice};
  return absl::OkStatus();
}

absl::Status NcclStaging::Read(const Buffer& buffer, int64_t offset, int64_t bytes, const char** data,
                               const Operation& operation) {
  *data = buffer.data + offset;
  if (!buffer.on_device) return absl::OkStatus();
  raw_.resize(static_cast<size_t>(bytes));
  MUSTER_RETURN_IF_ERROR(stream_.Copy(raw_.data(), *data, bytes, operation));
  *data = raw_.data();
  return stream_.Settle(operation);
}

absl::Status NcclStaging::Write(const Buffer& buffer, int64_t offset, int64_t bytes, const void* data,
                                const Operation& operation) {
  if (!buffer.on_device) {
    std::memcpy(buffer.data + offset, data, static_cast<size_t>(bytes));
    return absl::OkStatus();
  }
  MUSTER_RETURN_IF_ERROR(stream_.Copy(buffer.data + offset, data, bytes, operation));
  return stream_.Settle(operation);
}

absl::Status NcclStaging::ReadValues(const Buffer& buffer, int64_t offset, int64_t count, char* values,
                                     const Operation& operation) {
  const int64_t bytes = count * operation.element_bytes();
  const char* data = nullptr;
  MUSTER_RETURN_IF_ERROR(Read(buffer, offset, bytes, &data, operation));
  if (operation.element_bytes() == 2) {
    WidenToFloat32(operation.type(), data, reinterpret_cast<float*>(values), count);
  } else {
    std::memcpy(values, data, static_cast<size_t>(bytes));
  }
  return absl::OkStatus();
}

absl::Status NcclStaging::WriteValues(const Buffer& buffer, int64_t offset, int64_t count, const char* values,
                                      const Operation& operation) {
  const int64_t bytes = count * operation.element_bytes();
  if (operation.element_bytes() != 2) return Write(buffer, offset, bytes, values, operation);
  const auto* const wide = reinterpret_cast<const float*>(values);
  if (!buffer.on_device) {
    RoundFromFloat32(operation.type(), wide, buffer.data + offset, count);
    return absl::OkStatus();
  }
  raw_.resize(static_cast<size_t>(bytes));
  RoundFromFloat32(operation.type(), wide, raw_.data(), count);
  return Write(buffer, offset, bytes, raw_.data(), operation);
}

// --- Operations ---

// The rows of this rank are combined first; of a plain all_reduce there is one.
absl::Status NcclStaging::AllReduce(const Operation& operation) {
  const bool shards = operation.what.kind == v1::OpKind::kAllReduceShards;
  const int rows = shards ? operation.leaves->rows[static_cast<size_t>(rank_)] : 1;
  const int rows_max = shards ? operation.leaves->rows_max : 1;  // all ranks cut alike
  const DataType type = HostType(operation.type());
  const Wire wire = WireOf(operation.type(), operation.op());
  const ReducePlan plan = ReducePlan::ForLeaves(rows);
  const int64_t leaves = operation.leaves->plan.leaves();
  const ReduceOp undivided = operation.op() == ReduceOp::kAvg ? ReduceOp::kSum : operation.op();
  const int64_t piece_max = PieceMax(scratch_bytes_, rows_max, SizeOf(type));
  Buffer buffer;
  MUSTER_RETURN_IF_ERROR(Find(operation.output, &buffer, operation));
  for (int64_t begin = 0; begin < operation.what.count; begin += piece_max) {
    const int64_t count = std::min(piece_max, operation.what.count - begin);
    const int64_t offset = begin * operation.element_bytes();
    std::vector<const void*> sources;
    for (int row = 0; row < rows; ++row) {
      char* const values = pinned_ + row * piece_max * SizeOf(type);
      MUSTER_RETURN_IF_ERROR(ReadValues(buffer, row * operation.stride_bytes + offset, count, values, operation));
      sources.push_back(values);
    }
    void* const sum = pinned_;
    if (rows > 1) Reduce(plan, sources, count, type, undivided, {&sum, 1});
    EncodeForWire(operation.type(), operation.op(), sum, count);
    const int64_t bytes = count * SizeOf(type);
    MUSTER_RETURN_IF_ERROR(stream_.Copy(device_, sum, bytes, operation));
    MUSTER_RETURN_IF_ERROR(stream_.Launch(
        [&](NcclComm comm, CudaStream stream) {
          return nccl_.AllReduce(device_, device_, count, wire.type, wire.op, comm, stream);
        },
        operation));
    MUSTER_RETURN_IF_ERROR(stream_.Copy(sum, device_, bytes, operation));
    MUSTER_RETURN_IF_ERROR(stream_.Settle(operation));
    DecodeFromWire(operation.type(), operation.op(), leaves, sum, count);
    MUSTER_RETURN_IF_ERROR(WriteValues(buffer, offset, count, pinned_, operation));
  }
  return absl::OkStatus();
}

// Part by part of every rank's part, packed.
absl::Status NcclStaging::ReduceScatter(const Operation& operation) {
  const int64_t part = operation.what.count / ranks_;
  const DataType type = HostType(operation.type());
  const Wire wire = WireOf(operation.type(), operation.op());
  const int64_t leaves = operation.leaves->plan.leaves();
  const int64_t piece_max = PieceMax(scratch_bytes_, ranks_ + 1, SizeOf(type));
  Buffer input, output;
  MUSTER_RETURN_IF_ERROR(Find(operation.input, &input, operation));
  MUSTER_RETURN_IF_ERROR(Find(operation.output, &output, operation));
  for (int64_t begin = 0; begin < part; begin += piece_max) {
    const int64_t count = std::min(piece_max, part - begin);
    const int64_t bytes = count * SizeOf(type);
    for (int64_t r = 0; r < ranks_; ++r) {
      const int64_t offset = (r * part + begin) * operation.element_bytes();
      MUSTER_RETURN_IF_ERROR(ReadValues(input, offset, count, pinned_ + r * bytes, operation));
    }
    EncodeForWire(operation.type(), operation.op(), pinned_, ranks_ * count);
    char* const received = device_ + ranks_ * bytes;
    MUSTER_RETURN_IF_ERROR(stream_.Copy(device_, pinned_, ranks_ * bytes, operation));
    MUSTER_RETURN_IF_ERROR(stream_.Launch(
        [&](NcclComm comm, CudaStream stream) {
          return nccl_.ReduceScatter(device_, received, count, wire.type, wire.op, comm, stream);
        },
        operation));
    MUSTER_RETURN_IF_ERROR(stream_.Copy(pinned_, received, bytes, operation));
    MUSTER_RETURN_IF_ERROR(stream_.Settle(operation));
    DecodeFromWire(operation.type(), operation.op(), leaves, pinned_, count);
    MUSTER_RETURN_IF_ERROR(WriteValues(output, begin * operation.element_bytes(), count, pinned_, operation));
  }
  return absl::OkStatus();
}

absl::Status NcclStaging::Broadcast(const Operation& operation) {
  const bool is_root = rank_ == operation.what.root;
  Buffer buffer;
  MUSTER_RETURN_IF_ERROR(Find(operation.output, &buffer, operation));
  for (int64_t begin = 0; begin < operation.row_bytes(); begin += scratch_bytes_) {
    const int64_t bytes = std::min(scratch_bytes_, operation.row_bytes() - begin);
    if (is_root) {
      const char* data = nullptr;
      MUSTER_RETURN_IF_ERROR(Read(buffer, begin, bytes, &data, operation));
      std::memcpy(pinned_, data, static_cast<size_t>(bytes));
      MUSTER_RETURN_IF_ERROR(stream_.Copy(device_, pinned_, bytes, operation));
    }
    MUSTER_RETURN_IF_ERROR(stream_.Launch(
        [&](NcclComm comm, CudaStream stream) { return nccl_.Broadcast(device_, bytes, operation.what.root, comm, stream); },
        operation));
    if (!is_root) MUSTER_RETURN_IF_ERROR(stream_.Copy(pinned_, device_, bytes, operation));
    MUSTER_RETURN_IF_ERROR(stream_.Settle(operation));
    if (!is_root) MUSTER_RETURN_IF_ERROR(Write(buffer, begin, bytes, pinned_, operation));
  }
  return absl::OkStatus();
}

absl::Status NcclStaging::AllGather(const Operation& operation) {
  const int64_t part = operation.row_bytes();
  const int64_t piece_max = PieceMax(scratch_bytes_, ranks_ + 1, 1);
  Buffer input, output;
  MUSTER_RETURN_IF_ERROR(Find(operation.input, &input, operation));
  MUSTER_RETURN_IF_ERROR(Find(operation.output, &output, operation));
  for (int64_t begin = 0; begin < part; begin += piece_max) {
    const int64_t bytes = std::min(piece_max, part - begin);
    const char* data = nullptr;
    MUSTER_RETURN_IF_ERROR(Read(input, begin, bytes, &data, operation));
    std::memcpy(pinned_, data, static_cast<size_t>(bytes));
    char* const received = device_ + piece_max;
    MUSTER_RETURN_IF_ERROR(stream_.Copy(device_, pinned_, bytes, operation));
    MUSTER_RETURN_IF_ERROR(stream_.Launch(
        [&](NcclComm comm, CudaStream stream) { return nccl_.AllGather(device_, received, bytes, comm, stream); }, operation));
    MUSTER_RETURN_IF_ERROR(stream_.Copy(pinned_, received, ranks_ * bytes, operation));
    MUSTER_RETURN_IF_ERROR(stream_.Settle(operation));
    for (int64_t r = 0; r < ranks_; ++r) {
      MUSTER_RETURN_IF_ERROR(Write(output, r * part + begin, bytes, pinned_ + r * bytes, operation));
    }
  }
  return absl::OkStatus();
}

}  // namespace muster
