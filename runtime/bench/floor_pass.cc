#include "runtime/bench/floor_pass.h"

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace muster::bench {
namespace {

// In each: the count as a constant (0: not one) lets the compiler keep pointers and sums in registers, and several vectors at a
// time keep enough loads under way.
using Pass = void(char* const* vectors, int count, int64_t begin, int64_t end);

template <int constant>
void PassPlain(char* const* vectors, int variable, int64_t begin, int64_t end) {
  typedef uint64_t Words __attribute__((vector_size(16)));
  const int count = constant > 0 ? constant : variable;
  for (int64_t at = begin; at < end; at += 16) {
    Words sum, other;
    std::memcpy(&sum, vectors[0] + at, sizeof(sum));
    for (int i = 1; i < count; ++i) {
      std::memcpy(&other, vectors[i] + at, sizeof(other));
      sum += other;
    }
    for (int i = 0; i < count; ++i) std::memcpy(vectors[i] + at, &sum, sizeof(sum));
  }
}

#if defined(__x86_64__)
template <int constant>
__attribute__((target("avx2"))) void PassAvx2(char* const* vectors, int variable, int64_t begin, int64_t end) {
  const int count = constant > 0 ? constant : variable;
  for (int64_t at = begin; at < end; at += 64) {
    const auto* first = reinterpret_cast<const __m256i*>(vectors[0] + at);
    __m256i low = _mm256_loadu_si256(first), high = _mm256_loadu_si256(first + 1);
    for (int i = 1; i < count; ++i) {
      const auto* next = reinterpret_cast<const __m256i*>(vectors[i] + at);
      low = _mm256_add_epi64(low, _mm256_loadu_si256(next));
      high = _mm256_add_epi64(high, _mm256_loadu_si256(next + 1));
    }
    for (int i = 0; i < count; ++i) {
      auto* to = reinterpret_cast<__m256i*>(vectors[i] + at);
      _mm256_storeu_si256(to, low);
      _mm256_storeu_si256(to + 1, high);
    }
  }
}

template <int constant>
__attribute__((target("avx512f"))) void PassAvx512(char* const* vectors, int variable, int64_t begin, int64_t end) {
  const int count = constant > 0 ? constant : variable;
  int64_t at = begin;
  for (; at + 256 <= end; at += 256) {
    __m512i sum[4];
    for (int j = 0; j < 4; ++j) sum[j] = _mm512_loadu_si512(vectors[0] + at + 64 * j);
    for (int i = 1; i < count; ++i) {
      for (int j = 0; j < 4; ++j) sum[j] = _mm512_add_epi64(sum[j], _mm512_loadu_si512(vectors[i] + at + 64 * j));
    }
    for (int i = 0; i < count; ++i) {
      for (int j = 0; j < 4; ++j) _mm512_storeu_si512(vectors[i] + at + 64 * j, sum[j]);
    }
  }
  for (; at < end; at += 64) {
    __m512i sum = _mm512_loadu_si512(vectors[0] + at);
    for (int i = 1; i < count; ++i) sum = _mm512_add_epi64(sum, _mm512_loadu_si512(vectors[i] + at));
    for (int i = 0; i < count; ++i) _mm512_storeu_si512(vectors[i] + at, sum);
  }
}
#endif

template <int constant>
Pass* BestPass() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return PassAvx512<constant>;
  if (__builtin_cpu_supports("avx2")) return PassAvx2<constant>;
#endif
  return PassPlain<constant>;
}

Pass* PassFor(int count) {
  switch (count) {
    case 1:
      return BestPass<1>();
    case 2:
      return BestPass<2>();
    case 3:
      return BestPass<3>();
    case 4:
      return BestPass<4>();
    case 8:
      return BestPass<8>();
    default:
      return BestPass<0>();
  }
}

}  // namespace

void FloorPass(char* const* vectors, int count, int64_t begin, int64_t end) { PassFor(count)(vectors, count, begin, end); }

}  // namespace muster::bench
