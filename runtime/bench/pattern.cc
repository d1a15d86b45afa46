#include "runtime/bench/pattern.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace muster::bench {
namespace {

constexpr int64_t kPeriod = 13;
constexpr int64_t kBytesMin = 4096;  // of a pattern, so that copies are not tiny

// Sum and average: pairs of neighbouring ranks deviate from `base` in opposite directions, an odd last rank not at all.
int64_t Deviation(int rank, int world_size) {
  if (world_size % 2 != 0 && rank == world_size - 1) return 0;
  const int64_t size = 1 + (rank / 2) % 3;
  return rank % 2 == 0 ? size : -size;
}

int64_t OwnValue(ReduceOp op, int64_t i, int rank, int world_size) {
  const int64_t base = 4 + i % kPeriod;
  const bool chosen = i % world_size == rank;
  switch (op) {
    case ReduceOp::kSum:
    case ReduceOp::kAvg:
      return base + Deviation(rank, world_size);
    case ReduceOp::kMin:
      return chosen ? base - 1 : base;
    case ReduceOp::kMax:
      return chosen ? base + 1 : base;
    case ReduceOp::kProd:
      return chosen ? 3 : (i + 1) % world_size == rank ? 2 : 1;
  }
  return 0;
}

int64_t Result(ReduceOp op, int64_t i, int world_size) {
  const int64_t base = 4 + i % kPeriod;
  switch (op) {
    case ReduceOp::kSum:
      return base * world_size;
    case ReduceOp::kAvg:
      return base;
    case ReduceOp::kMin:
      return base - 1;
    case ReduceOp::kMax:
      return base + 1;
    case ReduceOp::kProd:
      return world_size == 1 ? 3 : 6;
  }
  return 0;
}

// Positive and at least 1, so no denormals; rounded to nearest even, too large becomes infinity.
uint16_t EncodeFloat16(int64_t value) {
  int exponent = 0;
  const double fraction = std::frexp(static_cast<double>(value), &exponent);  // [0.5, 1)
  const int units = static_cast<int>(std::nearbyint(std::ldexp(fraction, 11)));
  return static_cast<uint16_t>(std::min(((exponent + 13) << 10) + units, 0x7c00));
}

uint16_t EncodeBFloat16(int64_t value) {
  const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(value));
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

template <class T>
void Put(T value, unsigned char* to) {
  std::memcpy(to, &value, sizeof(T));
}

void Encode(DataType type, int64_t value, unsigned char* to) {
  switch (type) {
    case DataType::kFloat32:
      return Put(static_cast<float>(value), to);
    case DataType::kFloat64:
      return Put(static_cast<double>(value), to);
    case DataType::kBFloat16:
      return Put(EncodeBFloat16(value), to);
    case DataType::kFloat16:
      return Put(EncodeFloat16(value), to);
    case DataType::kInt32:
      return Put(static_cast<int32_t>(value), to);
    case DataType::kInt64:
      return Put(value, to);
    case DataType::kUint8:
      return Put(static_cast<uint8_t>(value), to);
  }
}

}  // namespace

Pattern::Pattern(DataType type, ReduceOp op, int rank, int world_size) : element_bytes_(SizeOf(type)) {
  const int64_t period = kPeriod * world_size;
  const int64_t periods = (kBytesMin + period * element_bytes_ - 1) / (period * element_bytes_);
  const int64_t count = period * periods;
  own_.resize(static_cast<size_t>(count * element_bytes_));
  result_.resize(own_.size());
  for (int64_t i = 0; i < count; ++i) {
    Encode(type, OwnValue(op, i, rank, world_size), own_.data() + i * element_bytes_);
    Encode(type, Result(op, i, world_size), result_.data() + i * element_bytes_);
  }
}

void Pattern::Fill(Tensor buffer) const {
  auto* const to = static_cast<unsigned char*>(buffer.data);
  const auto block = static_cast<int64_t>(own_.size());
  for (int64_t offset = 0; offset < buffer.bytes(); offset += block) {
    std::memcpy(to + offset, own_.data(), static_cast<size_t>(std::min(block, buffer.bytes() - offset)));
  }
}

int64_t Pattern::CountWrong(ConstTensor buffer) const {
  const auto* const from = static_cast<const unsigned char*>(buffer.data);
  const auto block = static_cast<int64_t>(result_.size());
  const auto element = static_cast<size_t>(element_bytes_);
  int64_t wrong = 0;
  for (int64_t offset = 0; offset < buffer.bytes(); offset += block) {
    const auto bytes = static_cast<size_t>(std::min(block, buffer.bytes() - offset));
    if (std::memcmp(from + offset, result_.data(), bytes) == 0) continue;
    for (size_t at = 0; at < bytes; at += element) {
      if (std::memcmp(from + offset + at, result_.data() + at, element) != 0) ++wrong;
    }
  }
  return wrong;
}

}  // namespace muster::bench
