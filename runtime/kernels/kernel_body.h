// The kernels, once for every instruction set: included by each kernels_*.cc, which is compiled with that set's flags and puts
// kTable under its public name. Everything is in an unnamed namespace, so that no file gets another's code.
#ifndef MUSTER_RUNTIME_KERNELS_KERNEL_BODY_H_
#define MUSTER_RUNTIME_KERNELS_KERNEL_BODY_H_

#include "runtime/kernels/kernel_table.h"
#include "runtime/kernels/vector_formats.h"

namespace muster::kernels {
namespace {

enum class Combine { kSum = 0, kMin = 1, kMax = 2, kProd = 3 };

// Minimum and maximum propagate NaN and order -0 below +0: equal operands differ at most in the sign of a zero, which `or` and
// `and` of the bits settle; a comparison with NaN is false and yields `b`.
template <Combine combine, class T>
MUSTER_INLINE Vector<T> Apply(Vector<T> a, Vector<T> b) {
  using U = Vector<typename IntegerLike<T>::Bits>;
  if constexpr (combine == Combine::kSum) {
    if constexpr (kIsFloat<T>) return a + b;
    return (Vector<T>)((U)a + (U)b);
  } else if constexpr (combine == Combine::kProd) {
    if constexpr (kIsFloat<T>) return a * b;
    return (Vector<T>)((U)a * (U)b);
  } else {
    constexpr bool kMinimum = combine == Combine::kMin;
    Vector<T> result = kMinimum ? (a < b ? a : b) : (a > b ? a : b);
    if constexpr (kIsFloat<T>) {
      const Vector<T> zero = (Vector<T>)(kMinimum ? ((U)a | (U)b) : ((U)a & (U)b));
      result = a == b ? zero : result;
      result = a != a ? a : result;
    }
    return result;
  }
}

template <class T>
MUSTER_INLINE Vector<T> QuietNan(Vector<T> value) {
  using U = Vector<typename IntegerLike<T>::Bits>;
  return value != value ? (Vector<T>)(U{} + IntegerLike<T>::kQuietNan) : value;
}

template <class T>
MUSTER_INLINE Vector<T> Finish(Vector<T> value, int32_t divisor) {
  if constexpr (kIsFloat<T>) {
    if (divisor != 0) value = value / static_cast<T>(divisor);
    return QuietNan<T>(value);
  }
  return value;
}

constexpr int LeftLeaves(int leaves) {
  int left = 1;
  while (2 * left < leaves) left *= 2;
  return left;
}

// Tree(leaves) in registers; `load(i)` gives leaf i.
template <Combine combine, class T, int first, int leaves, class LoadLeaf>
MUSTER_INLINE Vector<T> Tree(const LoadLeaf& load) {
  if constexpr (leaves == 1) {
    return load(first);
  } else {
    constexpr int kLeft = LeftLeaves(leaves);
    const Vector<T> left = Tree<combine, T, first, kLeft>(load);
    return Apply<combine, T>(left, Tree<combine, T, first + kLeft, leaves - kLeft>(load));
  }
}

// A leaf-shaped plan with few sources. Four vectors at a time: all their loads come before their stores, and the loop over
// destinations costs little.
template <class Format, Combine combine, int leaves>
void ReduceInRegisters(const ReduceCall& call) {
  using T = typename Format::Compute;
  using V = Vector<T>;
  constexpr int64_t kBytes = Format::kBytes;
  const char* source[leaves];
  for (int i = 0; i < leaves; ++i) source[i] = static_cast<const char*>(call.sources[i]);
  char* const* const destination = reinterpret_cast<char* const*>(call.destinations);
  const int destinations = call.destinations_count;
  const int32_t divisor = call.divisor;
  const int64_t end = call.count * Format::kElementBytes;

  const auto value_at = [&](int64_t offset) MUSTER_INLINE_LAMBDA {
    return Finish<T>(Tree<combine, T, 0, leaves>([&](int i) MUSTER_INLINE_LAMBDA { return Format::Load(source[i] + offset); }),
                     divisor);
  };
  int64_t offset = 0;
  for (; offset + 4 * kBytes <= end; offset += 4 * kBytes) {
    const V value0 = value_at(offset);
    const V value1 = value_at(offset + kBytes);
    const V value2 = value_at(offset + 2 * kBytes);
    const V value3 = value_at(offset + 3 * kBytes);
    for (int i = 0; i < destinations; ++i) {
      char* to = destination[i] + offset;
      Format::Store(to, value0);
      Format::Store(to + kBytes, value1);
      Format::Store(to + 2 * kBytes, value2);
      Format::Store(to + 3 * kBytes, value3);
    }
  }
  for (; offset + kBytes <= end; offset += kBytes) {
    const V value = value_at(offset);
    for (int i = 0; i < destinations; ++i) Format::Store(destination[i] + offset, value);
  }
  if (const int64_t rest = end - offset; rest > 0) {
    const auto load = [&](int i) MUSTER_INLINE_LAMBDA { return Format::LoadPart(source[i] + offset, rest); };
    const V value = Finish<T>(Tree<combine, T, 0, leaves>(load), divisor);
    for (int i = 0; i < destinations; ++i) Format::StorePart(destination[i] + offset, value, rest);
  }
}

// Any plan: blocks of 1 KiB of compute type go through the plan's stack, which fits the first-level cache.
inline constexpr int kBlockVectors = 1024 / kVectorBytes;

template <class Format, class Visit>
MUSTER_INLINE void ForEachVector(int64_t bytes, const Visit& visit) {
  int vector = 0;
  int64_t offset = 0;
  for (; offset + Format::kBytes <= bytes; offset += Format::kBytes) visit(vector++, offset, int64_t{0});
  if (offset < bytes) visit(vector, offset, bytes - offset);
}

template <class Format>
MUSTER_INLINE Vector<typename Format::Compute> LoadSome(const char* from, int64_t rest) {
  return rest == 0 ? Format::Load(from) : Format::LoadPart(from, rest);
}

template <class Format, Combine combine>
void ReduceBlock(const ReduceCall& call, int64_t start, int64_t bytes) {
  using T = typename Format::Compute;
  using V = Vector<T>;
  V stack[kDepthMax][kBlockVectors];
  const int vectors = static_cast<int>((bytes + Format::kBytes - 1) / Format::kBytes);
  int top = -1;
  for (int i = 0; i < call.sources_count; ++i) {
    const char* const source = static_cast<const char*>(call.sources[i]) + start;
    int merges = call.merges[i];
    if (merges == 0) {
      V* const pushed = stack[++top];
      ForEachVector<Format>(bytes, [&](int vector, int64_t offset, int64_t rest)
                                       MUSTER_INLINE_LAMBDA { pushed[vector] = LoadSome<Format>(source + offset, rest); });
      continue;
    }
    // The source's own push and its first merge are one loop.
    V* const older = stack[top];
    ForEachVector<Format>(bytes, [&](int vector, int64_t offset, int64_t rest) MUSTER_INLINE_LAMBDA {
      older[vector] = Apply<combine, T>(older[vector], LoadSome<Format>(source + offset, rest));
    });
    for (; merges > 1; --merges) {
      V* const newer = stack[top--];
      V* const into = stack[top];
      for (int vector = 0; vector < vectors; ++vector) into[vector] = Apply<combine, T>(into[vector], newer[vector]);
    }
  }
  for (int i = 0; i < call.destinations_count; ++i) {
    char* const destination = static_cast<char*>(call.destinations[i]) + start;
    ForEachVector<Format>(bytes, [&](int vector, int64_t offset, int64_t rest) MUSTER_INLINE_LAMBDA {
      const V value = Finish<T>(stack[0][vector], call.divisor);
      if (rest == 0) {
        Format::Store(destination + offset, value);
      } else {
        Format::StorePart(destination + offset, value, rest);
      }
    });
  }
}

template <class Format, Combine combine>
void ReduceInBlocks(const ReduceCall& call) {
  constexpr int64_t kBlockBytes = kBlockVectors * Format::kBytes;
  const int64_t end = call.count * Format::kElementBytes;
  for (int64_t start = 0; start < end; start += kBlockBytes) {
    ReduceBlock<Format, combine>(call, start, end - start < kBlockBytes ? end - start : kBlockBytes);
  }
}

template <class Format, Combine combine>
void Reduce(const ReduceCall& call) {
  if (call.leaf_shaped) {
    switch (call.sources_count) {
      case 1:
        return ReduceInRegisters<Format, combine, 1>(call);
      case 2:
        return ReduceInRegisters<Format, combine, 2>(call);
      case 3:
        return ReduceInRegisters<Format, combine, 3>(call);
      case 4:
        return ReduceInRegisters<Format, combine, 4>(call);
      default:
        break;
    }
    if constexpr (combine == Combine::kSum) {
      switch (call.sources_count) {
        case 5:
          return ReduceInRegisters<Format, combine, 5>(call);
        case 6:
          return ReduceInRegisters<Format, combine, 6>(call);
        case 7:
          return ReduceInRegisters<Format, combine, 7>(call);
        case 8:
          return ReduceInRegisters<Format, combine, 8>(call);
        default:
          break;
      }
    }
  }
  ReduceInBlocks<Format, combine>(call);
}

template <class Format>
void WidenArray(const void* source, float* destination, int64_t count) {
  const char* const from = static_cast<const char*>(source);
  char* const to = reinterpret_cast<char*>(destination);
  ForEachVector<Format>(2 * count, [&](int, int64_t offset, int64_t rest) MUSTER_INLINE_LAMBDA {
    const Vector<float> value = QuietNan<float>(LoadSome<Format>(from + offset, rest));
    if (rest == 0) {
      StoreRaw(to + 2 * offset, value);
    } else {
      StoreRawPart(to + 2 * offset, value, 2 * rest);
    }
  });
}

template <class Format>
void RoundArray(const float* source, void* destination, int64_t count) {
  const char* const from = reinterpret_cast<const char*>(source);
  char* const to = static_cast<char*>(destination);
  ForEachVector<Format>(2 * count, [&](int, int64_t offset, int64_t rest) MUSTER_INLINE_LAMBDA {
    if (rest == 0) {
      Format::Store(to + offset, QuietNan<float>(LoadRaw<Vector<float>>(from + 2 * offset)));
    } else {
      Format::StorePart(to + offset, QuietNan<float>(LoadRawPart<Vector<float>>(from + 2 * offset, 2 * rest)), rest);
    }
  });
}

#define MUSTER_KERNEL_ROW(Format)                                                                \
  {                                                                                              \
    Reduce<Format, Combine::kSum>, Reduce<Format, Combine::kMin>, Reduce<Format, Combine::kMax>, \
        Reduce<Format, Combine::kProd>                                                           \
  }

constexpr KernelTable kTable = {{MUSTER_KERNEL_ROW(Direct<float>), MUSTER_KERNEL_ROW(Direct<double>),
                                 MUSTER_KERNEL_ROW(BFloat16), MUSTER_KERNEL_ROW(Float16), MUSTER_KERNEL_ROW(Direct<int32_t>),
                                 MUSTER_KERNEL_ROW(Direct<int64_t>), MUSTER_KERNEL_ROW(Direct<uint8_t>)},
                                WidenArray<BFloat16>,
                                WidenArray<Float16>,
                                RoundArray<BFloat16>,
                                RoundArray<Float16>};

#undef MUSTER_KERNEL_ROW

}  // namespace
}  // namespace muster::kernels

#endif  // MUSTER_RUNTIME_KERNELS_KERNEL_BODY_H_
