// The values collectives work on: a contiguous, non-owning run of elements in memory.
#ifndef MUSTER_TENSOR_H_
#define MUSTER_TENSOR_H_

#include <cstdint>

namespace muster {

// Numbers are part of the control-memory layout and of checkpoints; they are never reused.
enum class DataType : uint8_t {
  kFloat32 = 0,
  kFloat64 = 1,
  kBFloat16 = 2,  // the upper half of a float32
  kFloat16 = 3,   // IEEE 754 binary16
  kInt32 = 4,
  kInt64 = 5,
  kUint8 = 6,
};
inline constexpr int kDataTypes = 7;

// Sums run along the canonical pairwise tree over the ranks, so the bits do not depend on how they are computed:
//   Tree(n): n = 1 the leaf; else Tree(first 2^k leaves) op Tree(the rest), 2^k the largest power of two below n.
// 16-bit floats are reduced in float32 and rounded once, to nearest even. Integers wrap. kAvg is the sum and then one
// division by the number of leaves, before that rounding; InvalidArgument on integers. kMin and kMax propagate NaN and order -0
// below +0; every NaN result is the quiet NaN with a zero payload and no sign.
enum class ReduceOp : uint8_t { kSum = 0, kAvg = 1, kMin = 2, kMax = 3, kProd = 4 };
inline constexpr int kReduceOps = 5;

constexpr int64_t SizeOf(DataType type) {
  switch (type) {
    case DataType::kFloat64:
    case DataType::kInt64:
      return 8;
    case DataType::kFloat32:
    case DataType::kInt32:
      return 4;
    case DataType::kBFloat16:
    case DataType::kFloat16:
      return 2;
    case DataType::kUint8:
      return 1;
  }
  return 0;
}

constexpr bool IsInteger(DataType type) {
  return type == DataType::kInt32 || type == DataType::kInt64 || type == DataType::kUint8;
}

// The type's short name, as in "f32" or "bf16".
constexpr const char* Name(DataType type) {
  switch (type) {
    case DataType::kFloat32:
      return "f32";
    case DataType::kFloat64:
      return "f64";
    case DataType::kBFloat16:
      return "bf16";
    case DataType::kFloat16:
      return "f16";
    case DataType::kInt32:
      return "i32";
    case DataType::kInt64:
      return "i64";
    case DataType::kUint8:
      return "u8";
  }
  return "?";
}

constexpr const char* Name(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return "sum";
    case ReduceOp::kAvg:
      return "avg";
    case ReduceOp::kMin:
      return "min";
    case ReduceOp::kMax:
      return "max";
    case ReduceOp::kProd:
      return "prod";
  }
  return "?";
}

// Any alignment is correct; 64 bytes is fast. The owner keeps the memory alive until the operation is done.
struct Tensor {
  void* data = nullptr;
  int64_t count = 0;  // elements
  DataType type = DataType::kFloat32;

  constexpr int64_t bytes() const { return count * SizeOf(type); }
};

struct ConstTensor {
  const void* data = nullptr;
  int64_t count = 0;  // elements
  DataType type = DataType::kFloat32;

  constexpr ConstTensor() = default;
  constexpr ConstTensor(const void* data, int64_t count, DataType type) : data(data), count(count), type(type) {}
  constexpr ConstTensor(const Tensor& tensor) : data(tensor.data), count(tensor.count), type(tensor.type) {}
  constexpr int64_t bytes() const { return count * SizeOf(type); }
};

inline Tensor MakeTensor(float* data, int64_t count) { return {data, count, DataType::kFloat32}; }
inline Tensor MakeTensor(double* data, int64_t count) { return {data, count, DataType::kFloat64}; }
inline Tensor MakeTensor(int32_t* data, int64_t count) { return {data, count, DataType::kInt32}; }
inline Tensor MakeTensor(int64_t* data, int64_t count) { return {data, count, DataType::kInt64}; }
inline Tensor MakeTensor(uint8_t* data, int64_t count) { return {data, count, DataType::kUint8}; }

}  // namespace muster

#endif  // MUSTER_TENSOR_H_
