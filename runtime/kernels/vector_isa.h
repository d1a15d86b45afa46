// Vectors as wide as the instruction set that the including file is compiled for: GCC's vector extension, which clang shares,
// and intrinsics only where it has no words.
#ifndef MUSTER_RUNTIME_KERNELS_VECTOR_ISA_H_
#define MUSTER_RUNTIME_KERNELS_VECTOR_ISA_H_

#include <stddef.h>
#include <stdint.h>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#define MUSTER_INLINE_LAMBDA __attribute__((always_inline))
#define MUSTER_INLINE MUSTER_INLINE_LAMBDA inline

namespace muster::kernels {
namespace {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

template <class T, int bytes>
struct VectorOf {
  typedef T Type __attribute__((vector_size(bytes)));
};
template <class T>
using Vector = typename VectorOf<T, kVectorBytes>::Type;
template <class T>
using HalfVector = typename VectorOf<T, kVectorBytes / 2>::Type;

template <class V>
MUSTER_INLINE V LoadRaw(const char* from) {
  V value;
  __builtin_memcpy(&value, from, sizeof(V));
  return value;
}

template <class V>
MUSTER_INLINE void StoreRaw(char* to, V value) {
  __builtin_memcpy(to, &value, sizeof(V));
}

// The first `bytes` (fewer than sizeof(V)) of a vector; the rest is zero, and memory beyond is not touched.
template <class V>
MUSTER_INLINE V LoadRawPart(const char* from, int64_t bytes) {
#if defined(__AVX512F__)
  const uint64_t mask = (uint64_t{1} << bytes) - 1;
  if constexpr (sizeof(V) == 64) {
    return (V)_mm512_maskz_loadu_epi8(mask, from);
  } else {
    return (V)_mm256_maskz_loadu_epi8(static_cast<uint32_t>(mask), from);
  }
#else
  V value = {};
  __builtin_memcpy(&value, from, static_cast<size_t>(bytes));
  return value;
#endif
}

template <class V>
MUSTER_INLINE void StoreRawPart(char* to, V value, int64_t bytes) {
#if defined(__AVX512F__)
  const uint64_t mask = (uint64_t{1} << bytes) - 1;
  if constexpr (sizeof(V) == 64) {
    _mm512_mask_storeu_epi8(to, mask, (__m512i)value);
  } else {
    _mm256_mask_storeu_epi8(to, static_cast<uint32_t>(mask), (__m256i)value);
  }
#else
  __builtin_memcpy(to, &value, static_cast<size_t>(bytes));
#endif
}

#if defined(__AVX512F__)
MUSTER_INLINE Vector<float> WidenFloat16(HalfVector<uint16_t> raw) { return (Vector<float>)_mm512_cvtph_ps((__m256i)raw); }
MUSTER_INLINE HalfVector<uint16_t> RoundFloat16(Vector<float> value) {
  return (HalfVector<uint16_t>)_mm512_cvtps_ph((__m512)value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#elif defined(__AVX2__)
MUSTER_INLINE Vector<float> WidenFloat16(HalfVector<uint16_t> raw) { return (Vector<float>)_mm256_cvtph_ps((__m128i)raw); }
MUSTER_INLINE HalfVector<uint16_t> RoundFloat16(Vector<float> value) {
  return (HalfVector<uint16_t>)_mm256_cvtps_ph((__m256)value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#else
// Shifting the 15 low bits into place gives the value times 2^-112, denormals included; a multiplication by 2^112 is exact.
// Infinity and NaN get the exponent they miss.
MUSTER_INLINE Vector<float> WidenFloat16(HalfVector<uint16_t> raw) {
  using Bits = Vector<uint32_t>;
  const Bits wide = __builtin_convertvector(raw, Bits);
  const Bits magnitude = (wide & 0x7fffu) << 13;
  const Bits finite = (Bits)((Vector<float>)magnitude * 0x1p112f);
  const Bits special = (Bits)(magnitude >= 0x0f800000u);
  return (Vector<float>)(((special & (magnitude | 0x7f800000u)) | (~special & finite)) | ((wide & 0x8000u) << 16));
}

// Normal results: re-bias, add half of the last place (less one where that is even), cut. Denormal results: adding 0.5, whose
// last place is 2^-24, lets the addition round. From 65536 up: infinity; a NaN arrives as the quiet one with a zero payload.
MUSTER_INLINE HalfVector<uint16_t> RoundFloat16(Vector<float> value) {
  using Bits = Vector<uint32_t>;
  const Bits bits = (Bits)value;
  const Bits sign = (bits >> 16) & 0x8000u;
  const Bits magnitude = bits & 0x7fffffffu;
  const Bits normal = (magnitude - 0x38000000u + 0x0fffu + ((magnitude >> 13) & 1u)) >> 13;
  const Bits denormal = (Bits)((Vector<float>)magnitude + 0.5f) - 0x3f000000u;
  const Bits is_denormal = (Bits)(magnitude < 0x38800000u);
  const Bits is_infinite = (Bits)(magnitude >= 0x47800000u);
  const Bits is_nan = (Bits)(magnitude > 0x7f800000u);
  Bits result = (is_denormal & denormal) | (~is_denormal & normal);
  result = (is_infinite & 0x7c00u) | (~is_infinite & result);
  result = (is_nan & 0x7e00u) | (~is_nan & result);
  return __builtin_convertvector(result | sign, HalfVector<uint16_t>);
}
#endif

}  // namespace
}  // namespace muster::kernels

#endif  // MUSTER_RUNTIME_KERNELS_VECTOR_ISA_H_
