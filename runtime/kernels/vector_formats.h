// How each element type is loaded into a vector of its compute type and stored back. Included once by each kernels_*.cc, which
// defines kVectorBytes, and with it 16-bit conversions and partial loads, before.
#ifndef MUSTER_RUNTIME_KERNELS_VECTOR_FORMATS_H_
#define MUSTER_RUNTIME_KERNELS_VECTOR_FORMATS_H_

#include <stdint.h>

#include "runtime/kernels/vector_isa.h"

namespace muster::kernels {
namespace {

template <class T>
struct IntegerLike;
template <>
struct IntegerLike<float> {
  using Bits = uint32_t;
  static constexpr Bits kQuietNan = 0x7fc00000u;
};
template <>
struct IntegerLike<double> {
  using Bits = uint64_t;
  static constexpr Bits kQuietNan = 0x7ff8000000000000u;
};
template <>
struct IntegerLike<int32_t> {
  using Bits = uint32_t;
};
template <>
struct IntegerLike<int64_t> {
  using Bits = uint64_t;
};
template <>
struct IntegerLike<uint8_t> {
  using Bits = uint8_t;
};

template <class T>
inline constexpr bool kIsFloat = false;
template <>
inline constexpr bool kIsFloat<float> = true;
template <>
inline constexpr bool kIsFloat<double> = true;

// Types that are computed as themselves.
template <class T>
struct Direct {
  using Compute = T;
  using V = Vector<T>;
  static constexpr int64_t kElementBytes = sizeof(T);
  static constexpr int64_t kBytes = kVectorBytes;  // in memory, one vector

  static MUSTER_INLINE V Load(const char* from) { return LoadRaw<V>(from); }
  static MUSTER_INLINE void Store(char* to, V value) { StoreRaw(to, value); }
  static MUSTER_INLINE V LoadPart(const char* from, int64_t bytes) { return LoadRawPart<V>(from, bytes); }
  static MUSTER_INLINE void StorePart(char* to, V value, int64_t bytes) { StoreRawPart(to, value, bytes); }
};

// The upper half of a float32; computed as float32. Rounding to nearest even is integer arithmetic: add one half of the last
// place kept, less one where that place is even, and cut. A quiet NaN with a zero payload survives it.
struct BFloat16 {
  using Compute = float;
  using V = Vector<float>;
  using Raw = HalfVector<uint16_t>;
  static constexpr int64_t kElementBytes = 2;
  static constexpr int64_t kBytes = kVectorBytes / 2;

  static MUSTER_INLINE V Widen(Raw raw) { return (V)(__builtin_convertvector(raw, Vector<uint32_t>) << 16); }
  static MUSTER_INLINE Raw Round(V value) {
    const Vector<uint32_t> bits = (Vector<uint32_t>)value;
    return __builtin_convertvector((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, Raw);
  }

  static MUSTER_INLINE V Load(const char* from) { return Widen(LoadRaw<Raw>(from)); }
  static MUSTER_INLINE void Store(char* to, V value) { StoreRaw(to, Round(value)); }
  static MUSTER_INLINE V LoadPart(const char* from, int64_t bytes) { return Widen(LoadRawPart<Raw>(from, bytes)); }
  static MUSTER_INLINE void StorePart(char* to, V value, int64_t bytes) { StoreRawPart(to, Round(value), bytes); }
};

// IEEE 754 binary16; computed as float32.
struct Float16 {
  using Compute = float;
  using V = Vector<float>;
  using Raw = HalfVector<uint16_t>;
  static constexpr int64_t kElementBytes = 2;
  static constexpr int64_t kBytes = kVectorBytes / 2;

  static MUSTER_INLINE V Load(const char* from) { return WidenFloat16(LoadRaw<Raw>(from)); }
  static MUSTER_INLINE void Store(char* to, V value) { StoreRaw(to, RoundFloat16(value)); }
  static MUSTER_INLINE V LoadPart(const char* from, int64_t bytes) { return WidenFloat16(LoadRawPart<Raw>(from, bytes)); }
  static MUSTER_INLINE void StorePart(char* to, V value, int64_t bytes) { StoreRawPart(to, RoundFloat16(value), bytes); }
};

}  // namespace
}  // namespace muster::kernels

#endif  // MUSTER_RUNTIME_KERNELS_VECTOR_FORMATS_H_
