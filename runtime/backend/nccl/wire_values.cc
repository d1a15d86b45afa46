#include "runtime/backend/nccl/wire_values.h"

#include <cstring>
#include <limits>

namespace muster {
namespace {

bool IsOrdered(DataType type, ReduceOp op) { return !IsInteger(type) && (op == ReduceOp::kMin || op == ReduceOp::kMax); }

// Calls change(value) on each of `count` values at any alignment.
template <typename T, typename Change>
void ForEach(void* values, int64_t count, Change change) {
  char* at = static_cast<char*>(values);
  for (int64_t i = 0; i < count; ++i, at += sizeof(T)) {
    T value;
    std::memcpy(&value, at, sizeof value);
    change(value);
    std::memcpy(at, &value, sizeof value);
  }
}

// A float's bits as an integer: negative numbers run backwards, so their lower bits are turned. NaN is beyond all others.
template <typename Float, typename Int>
void Order(ReduceOp op, void* values, int64_t count) {
  constexpr Int kLow = std::numeric_limits<Int>::max();
  const Int nan = op == ReduceOp::kMax ? std::numeric_limits<Int>::max() : std::numeric_limits<Int>::min();
  ForEach<Int>(values, count, [nan](Int& bits) {
    Float value;
    std::memcpy(&value, &bits, sizeof value);
    bits = value != value ? nan : bits < 0 ? static_cast<Int>(bits ^ kLow) : bits;
  });
}

template <typename Float, typename Int>
void Unorder(ReduceOp op, void* values, int64_t count) {
  constexpr Int kLow = std::numeric_limits<Int>::max();
  const Int nan = op == ReduceOp::kMax ? std::numeric_limits<Int>::max() : std::numeric_limits<Int>::min();
  ForEach<Int>(values, count, [nan](Int& bits) {
    if (bits == nan) {
      const Float quiet = std::numeric_limits<Float>::quiet_NaN();
      std::memcpy(&bits, &quiet, sizeof bits);
    } else if (bits < 0) {
      bits = static_cast<Int>(bits ^ kLow);
    }
  });
}

template <typename Float>
void Finish(int64_t divisor, void* values, int64_t count) {
  ForEach<Float>(values, count, [divisor](Float& value) {
    if (divisor != 1) value /= static_cast<Float>(divisor);
    if (value != value) value = std::numeric_limits<Float>::quiet_NaN();
  });
}

}  // namespace

DataType HostType(DataType type) { return SizeOf(type) == 2 ? DataType::kFloat32 : type; }

Wire WireOf(DataType type, ReduceOp op) {
  const DataType host = HostType(type);
  if (!IsOrdered(type, op)) return {host, op == ReduceOp::kAvg ? ReduceOp::kSum : op};
  return {host == DataType::kFloat64 ? DataType::kInt64 : DataType::kInt32, op};
}

void EncodeForWire(DataType type, ReduceOp op, void* values, int64_t count) {
  if (!IsOrdered(type, op)) return;
  if (HostType(type) == DataType::kFloat64) {
    Order<double, int64_t>(op, values, count);
  } else {
    Order<float, int32_t>(op, values, count);
  }
}

void DecodeFromWire(DataType type, ReduceOp op, int64_t leaves, void* values, int64_t count) {
  if (IsInteger(type)) return;
  const bool is_double = HostType(type) == DataType::kFloat64;
  if (IsOrdered(type, op)) {
    is_double ? Unorder<double, int64_t>(op, values, count) : Unorder<float, int32_t>(op, values, count);
    return;
  }
  const int64_t divisor = op == ReduceOp::kAvg ? leaves : 1;
  is_double ? Finish<double>(divisor, values, count) : Finish<float>(divisor, values, count);
}

}  // namespace muster
