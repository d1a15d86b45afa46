// What the kernels do with one element: reductions and 16-bit floats, with the bits of runtime/kernels.
//
// Compiled by nvcc for GPUs (-fmad=false) and by tests for the host.
#ifndef MUSTER_RUNTIME_DEVICE_CUDA_ELEMENT_BODY_H_
#define MUSTER_RUNTIME_DEVICE_CUDA_ELEMENT_BODY_H_

#include <stdint.h>
#include <string.h>

#include "runtime/device/device_kernels.h"

namespace muster::device {

// To and from bits; memcpy of 4 or 8 bytes costs nothing on either side.
template <class To, class From>
MUSTER_ON_ANY inline To BitCast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

// --- Formats: how an element lies in memory, and as what it is computed ---

template <class T>
struct Direct {
  using Stored = T;
  using Compute = T;
  MUSTER_ON_ANY static T Load(T stored) { return stored; }
  MUSTER_ON_ANY static T Store(T value) { return value; }
};

struct BFloat16 {
  using Stored = uint16_t;
  using Compute = float;
  MUSTER_ON_ANY static float Load(uint16_t stored) { return BitCast<float>(static_cast<uint32_t>(stored) << 16); }
  MUSTER_ON_ANY static uint16_t Store(float value) {
    const uint32_t bits = BitCast<uint32_t>(value);
    if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40);
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
};

// IEEE 754 binary16: 5 bits of exponent, 10 of mantissa.
struct Float16 {
  using Stored = uint16_t;
  using Compute = float;
  MUSTER_ON_ANY static float Load(uint16_t stored) {
    const uint32_t sign = static_cast<uint32_t>(stored & 0x8000) << 16;
    const uint32_t exponent = stored >> 10 & 0x1f;
    const uint32_t mantissa = stored & 0x3ff;
    if (exponent == 0x1f) return BitCast<float>(sign | 0x7f800000 | mantissa << 13);
    if (exponent != 0) return BitCast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
    const float size = static_cast<float>(mantissa) * 5.9604644775390625e-8f;  // 2^-24: exact
    return BitCast<float>(sign | BitCast<uint32_t>(size));
  }
  MUSTER_ON_ANY static uint16_t Store(float value) {
    const uint32_t bits = BitCast<uint32_t>(value);
    const uint32_t size = bits & 0x7fffffff;
    const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
    if (size > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
    if (size >= 0x47800000) return static_cast<uint16_t>(sign | 0x7c00);  // 65536 and more
    if (size >= 0x38800000) {  // normal; a carry goes into the exponent, up to infinity
      const uint32_t rounded = size + 0xfff + (size >> 13 & 1);
      return static_cast<uint16_t>(sign | (rounded - (112u << 23)) >> 13);
    }
    if (size < 0x33000000) return sign;  // less than half the smallest denormal
    const uint32_t shift = 126 - (size >> 23);
    const uint32_t mantissa = (size & 0x7fffff) | 0x800000;
    const uint32_t half = 1u << (shift - 1);
    const uint32_t rounded = (mantissa + half - 1 + (mantissa >> shift & 1)) >> shift;
    return static_cast<uint16_t>(sign | rounded);
  }
};

// --- Values ---

template <class T>
struct BitsOf {
  static constexpr bool kIsFloat = false;
};
template <>
struct BitsOf<float> {
  static constexpr bool kIsFloat = true;
  using Unsigned = uint32_t;
  static constexpr uint32_t kQuietNan = 0x7fc00000;
};
template <>
struct BitsOf<double> {
  static constexpr bool kIsFloat = true;
  using Unsigned = uint64_t;
  static constexpr uint64_t kQuietNan = 0x7ff8000000000000;
};

template <class T>
MUSTER_ON_ANY inline T QuietNan(T value) {
  if constexpr (BitsOf<T>::kIsFloat) return value != value ? BitCast<T>(BitsOf<T>::kQuietNan) : value;
  return value;
}

// Wrapping: computed as 64-bit unsigned numbers, whose lower part is that of every narrower type.
template <class T>
MUSTER_ON_ANY inline T Add(T a, T b) {
  if constexpr (BitsOf<T>::kIsFloat) return a + b;
  return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}

template <class T>
MUSTER_ON_ANY inline T Multiply(T a, T b) {
  if constexpr (BitsOf<T>::kIsFloat) return a * b;
  return static_cast<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}

// Propagate NaN, and order -0 below +0.
template <class T, bool minimum>
MUSTER_ON_ANY inline T Extreme(T a, T b) {
  if constexpr (BitsOf<T>::kIsFloat) {
    using U = typename BitsOf<T>::Unsigned;
    if (a != a) return a;
    if (a == b) return BitCast<T>(minimum ? BitCast<U>(a) | BitCast<U>(b) : BitCast<U>(a) & BitCast<U>(b));
  }
  return (minimum ? a < b : a > b) ? a : b;  // b if it is NaN
}

struct SumOp {
  template <class T>
  MUSTER_ON_ANY static T Apply(T a, T b) {
    return Add(a, b);
  }
};
struct MinOp {
  template <class T>
  MUSTER_ON_ANY static T Apply(T a, T b) {
    return Extreme<T, true>(a, b);
  }
};
struct MaxOp {
  template <class T>
  MUSTER_ON_ANY static T Apply(T a, T b) {
    return Extreme<T, false>(a, b);
  }
};
struct ProdOp {
  template <class T>
  MUSTER_ON_ANY static T Apply(T a, T b) {
    return Multiply(a, b);
  }
};

// --- Elements ---

template <class Format>
MUSTER_ON_ANY inline typename Format::Stored DividedElement(typename Format::Stored stored, int32_t divisor) {
  using T = typename Format::Compute;
  return Format::Store(QuietNan<T>(Format::Load(stored) / static_cast<T>(divisor)));
}

// Element i of a reduction.
template <class Format, class Op>
MUSTER_ON_ANY inline typename Format::Stored ReducedElement(const DeviceReduce& call, int64_t i) {
  using T = typename Format::Compute;
  using Stored = typename Format::Stored;
  T stack[kDeviceDepthMax];
  int top = -1;
  for (int source = 0; source < call.sources_count; ++source) {
    stack[++top] = Format::Load(static_cast<const Stored*>(call.sources[source])[i]);
    for (int merges = call.merges[source]; merges > 0; --merges) {
      const T newer = stack[top--];
      stack[top] = Op::Apply(stack[top], newer);
    }
  }
  T result = stack[0];
  if constexpr (BitsOf<T>::kIsFloat) {
    if (call.op == ReduceOp::kAvg) result = result / static_cast<T>(call.divisor);
  }
  return Format::Store(QuietNan<T>(result));
}

// `visit` gets a Format, for every type; false: there is no such type.
template <class Visit>
bool WithFormat(DataType type, const Visit& visit) {
  switch (type) {
    case DataType::kFloat32:
      return visit(Direct<float>()), true;
    case DataType::kFloat64:
      return visit(Direct<double>()), true;
    case DataType::kBFloat16:
      return visit(BFloat16()), true;
    case DataType::kFloat16:
      return visit(Float16()), true;
    case DataType::kInt32:
      return visit(Direct<int32_t>()), true;
    case DataType::kInt64:
      return visit(Direct<int64_t>()), true;
    case DataType::kUint8:
      return visit(Direct<uint8_t>()), true;
  }
  return false;
}

template <class Visit>
bool WithOp(ReduceOp op, const Visit& visit) {
  switch (op) {
    case ReduceOp::kSum:
    case ReduceOp::kAvg:
      return visit(SumOp()), true;
    case ReduceOp::kMin:
      return visit(MinOp()), true;
    case ReduceOp::kMax:
      return visit(MaxOp()), true;
    case ReduceOp::kProd:
      return visit(ProdOp()), true;
  }
  return false;
}

}  // namespace muster::device

#endif  // MUSTER_RUNTIME_DEVICE_CUDA_ELEMENT_BODY_H_
