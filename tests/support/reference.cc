#include "tests/support/reference.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <type_traits>

namespace muster::test {
namespace {

// 16-bit floats as types of their own, so that one template serves all.
struct BFloat16 {
  uint16_t bits = 0;
};
struct Float16 {
  uint16_t bits = 0;
};

// Calls `visit` with a value of the element type.
template <class Visit>
auto WithType(DataType type, const Visit& visit) {
  switch (type) {
    case DataType::kFloat64:
      return visit(double{});
    case DataType::kBFloat16:
      return visit(BFloat16{});
    case DataType::kFloat16:
      return visit(Float16{});
    case DataType::kInt32:
      return visit(int32_t{});
    case DataType::kInt64:
      return visit(int64_t{});
    case DataType::kUint8:
      return visit(uint8_t{});
    case DataType::kFloat32:
      break;
  }
  return visit(float{});
}

template <class T>
inline constexpr DataType kTypeOf = std::is_same_v<T, BFloat16> ? DataType::kBFloat16 : DataType::kFloat16;
template <class T>
inline constexpr bool kIsHalf = std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>;
// What values of T are combined as.
template <class T>
using Wide = std::conditional_t<kIsHalf<T>, float, T>;

template <class T>
T Get(const Bytes& bytes, int64_t i) {
  T value;
  std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
  return value;
}

template <class T>
void Set(Bytes& bytes, int64_t i, T value) {
  std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
}

template <class T>
T QuietNan() {
  if constexpr (sizeof(T) == 4) {
    return std::bit_cast<T>(uint32_t{0x7fc00000});
  } else {
    return std::bit_cast<T>(uint64_t{0x7ff8000000000000});
  }
}

template <class T>
Wide<T> Widen(T value) {
  if constexpr (kIsHalf<T>)
    return WidenScalar(kTypeOf<T>, value.bits);
  else
    return value;
}

template <class T>
T Round(Wide<T> value) {
  if constexpr (kIsHalf<T>) {
    return T{RoundScalar(kTypeOf<T>, value)};
  } else if constexpr (std::is_floating_point_v<T>) {
    return std::isnan(value) ? QuietNan<T>() : value;
  } else {
    return value;
  }
}

template <class W>
W MinOrMax(W a, W b, bool minimum) {
  if constexpr (std::is_floating_point_v<W>) {
    if (std::isnan(a) || std::isnan(b)) return QuietNan<W>();
    if (a == 0 && b == 0) return (std::signbit(a) == minimum) ? a : b;
  }
  return (a < b) == minimum ? a : b;
}

// volatile keeps the compiler from keeping more than the type's precision or reassociating, whatever its flags.
template <class W>
W Combine(W a, W b, ReduceOp op) {
  switch (op) {
    case ReduceOp::kMin:
      return MinOrMax(a, b, true);
    case ReduceOp::kMax:
      return MinOrMax(a, b, false);
    case ReduceOp::kProd:
    case ReduceOp::kSum:
    case ReduceOp::kAvg:
      break;
  }
  if constexpr (std::is_floating_point_v<W>) {
    volatile W result = op == ReduceOp::kProd ? a * b : a + b;
    return result;
  } else {
    const uint64_t wide_a = static_cast<uint64_t>(a), wide_b = static_cast<uint64_t>(b);
    return static_cast<W>(op == ReduceOp::kProd ? wide_a * wide_b : wide_a + wide_b);
  }
}

int LargestPowerBelow(int n) {
  int power = 1;
  while (2 * power < n) power *= 2;
  return power;
}

// Tree over leaves [first, first + n), by its definition in muster/tensor.h.
template <class W>
W Tree(const std::vector<W>& leaves, size_t first, int n, ReduceOp op) {
  if (n == 1) return leaves[first];
  const int left = LargestPowerBelow(n);
  return Combine(Tree(leaves, first, left, op), Tree(leaves, first + left, n - left, op), op);
}

template <class W>
W Divide(W sum, int leaves, ReduceOp op) {
  if constexpr (std::is_floating_point_v<W>) {
    if (op == ReduceOp::kAvg) return sum / static_cast<W>(leaves);
  }
  return sum;
}

// Applies `combine` to the leaves' values of each element; `leaves` divides an average.
template <class CombineAll>
Bytes ForEachElement(std::span<const Bytes> inputs, DataType type, ReduceOp op, int leaves, const CombineAll& combine) {
  Bytes result(inputs[0].size());
  WithType(type, [&]<class T>(T) {
    std::vector<Wide<T>> values(inputs.size());
    for (int64_t i = 0; i < static_cast<int64_t>(result.size() / sizeof(T)); ++i) {
      for (size_t j = 0; j < inputs.size(); ++j) values[j] = Widen(Get<T>(inputs[j], i));
      Set<T>(result, i, Round<T>(Divide(combine(values), leaves, op)));
    }
  });
  return result;
}

uint64_t Mix(uint64_t seed, uint64_t a, uint64_t b) {
  std::seed_seq sequence{uint32_t(seed), uint32_t(seed >> 32), uint32_t(a), uint32_t(b), uint32_t(b >> 32)};
  uint32_t words[2];
  sequence.generate(words, words + 2);
  return uint64_t{words[0]} << 32 | words[1];
}

// Binary places of precision, and how far the large values of a cancelling sum stand above the small ones.
struct Precision {
  int places;
  int large_exponent;
};
template <class T>
constexpr Precision PrecisionOf() {
  if constexpr (std::is_same_v<T, double>) return {53, 50};
  if constexpr (std::is_same_v<T, BFloat16>) return {8, 21};
  if constexpr (std::is_same_v<T, Float16>) return {11, 15};
  return {24, 21};
}

// 1 <= result < 2 with `places` significant bits.
template <class W>
W Significand(uint64_t random, int places) {
  return static_cast<W>(std::ldexp(static_cast<double>((random >> 11) | (uint64_t{1} << 53)), -53) -
                        std::fmod(std::ldexp(static_cast<double>((random >> 11)), -53), std::ldexp(1.0, 1 - places)));
}

template <class T>
T FloatElement(std::mt19937_64& own, std::mt19937_64& common, ReduceOp op) {
  constexpr Precision kPrecision = PrecisionOf<T>();
  using W = Wide<T>;
  const W large = std::ldexp(Significand<W>(common(), kPrecision.places), kPrecision.large_exponent);
  const uint64_t choice = own();
  const W small = Significand<W>(own(), kPrecision.places);
  const bool negative = (choice & 1) != 0;
  W value;
  if (op == ReduceOp::kProd) {
    value = small / (choice & 2 ? W{1} : W{2});
  } else if ((choice & 2) != 0) {
    value = std::is_same_v<T, Float16> ? large / 2 : large;
  } else {
    value = std::is_same_v<T, Float16> ? std::ldexp(small, -8) : small;
  }
  return Round<T>(negative ? -value : value);
}

template <class T>
T IntegerElement(std::mt19937_64& own) {
  return static_cast<T>(own());
}

template <class T>
std::vector<T> SpecialFloats() {
  if constexpr (std::is_same_v<T, BFloat16>) {
    std::vector<T> values;
    for (const uint16_t bits :
         {0x7fc0, 0xffc0, 0x7f81, 0xffbf, 0x7f80, 0xff80, 0x0000, 0x8000, 0x0001, 0x8001, 0x007f, 0x7f7f, 0xff7f, 0x0080})
      values.push_back({bits});
    return values;
  } else if constexpr (std::is_same_v<T, Float16>) {
    std::vector<T> values;
    for (const uint16_t bits :
         {0x7e00, 0xfe01, 0x7c01, 0xfdff, 0x7c00, 0xfc00, 0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x7bff, 0xfbff, 0x0400})
      values.push_back({bits});
    return values;
  } else {
    using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    using Limits = std::numeric_limits<T>;
    const Bits infinity = std::bit_cast<Bits>(Limits::infinity());
    const Bits sign = Bits{1} << (8 * sizeof(T) - 1);
    std::vector<T> values{Limits::infinity(),   -Limits::infinity(),   T{0},          -T{0},
                          Limits::denorm_min(), -Limits::denorm_min(), Limits::min(), Limits::max(),
                          Limits::lowest(),     Limits::min() / 2};
    for (const Bits nan : {Bits(infinity + 1), Bits(sign | (infinity + 5)), std::bit_cast<Bits>(QuietNan<T>()),
                           Bits(sign | std::bit_cast<Bits>(QuietNan<T>()) | 3)})
      values.push_back(std::bit_cast<T>(nan));
    return values;
  }
}

template <class T>
std::vector<T> SpecialValues() {
  if constexpr (std::is_integral_v<T>) {
    return {std::numeric_limits<T>::min(), std::numeric_limits<T>::max(), T{0}, T{1}, static_cast<T>(-1)};
  } else {
    return SpecialFloats<T>();
  }
}

template <class T>
std::string Hex(T value) {
  unsigned long long bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  char text[32];
  std::snprintf(text, sizeof(text), "0x%0*llx", static_cast<int>(2 * sizeof(T)), bits);
  return text;
}

}  // namespace

float WidenScalar(DataType type, uint16_t bits) {
  const bool bfloat = type == DataType::kBFloat16;
  const int fraction_bits = bfloat ? 7 : 10, exponent_bits = bfloat ? 8 : 5;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int fraction = bits & ((1 << fraction_bits) - 1);
  const int exponent = (bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  double value;
  if (exponent == (1 << exponent_bits) - 1) {
    if (fraction != 0) return QuietNan<float>();
    value = std::numeric_limits<double>::infinity();
  } else if (exponent == 0) {
    value = std::ldexp(fraction, 1 - bias - fraction_bits);
  } else {
    value = std::ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
  }
  return static_cast<float>((bits & 0x8000) != 0 ? -value : value);
}

uint16_t RoundScalar(DataType type, float value) {
  const bool bfloat = type == DataType::kBFloat16;
  const int fraction_bits = bfloat ? 7 : 10, exponent_bits = bfloat ? 8 : 5;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int infinity = ((1 << exponent_bits) - 1) << fraction_bits;
  if (std::isnan(value)) return static_cast<uint16_t>(infinity | 1 << (fraction_bits - 1));
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(static_cast<double>(value));
  if (std::isinf(value)) return static_cast<uint16_t>(sign | infinity);
  if (magnitude == 0) return sign;
  // The last place of the result, in units of which the magnitude is rounded; carries run into the exponent by themselves.
  const int exponent = std::max(std::ilogb(magnitude), 1 - bias);
  const double units = std::nearbyint(std::ldexp(magnitude, fraction_bits - exponent));
  const int encoded = ((exponent + bias - 1) << fraction_bits) + static_cast<int>(units);
  return static_cast<uint16_t>(sign | std::min(encoded, infinity));
}

Bytes TestVector(uint64_t seed, int rank, DataType type, ReduceOp op, int64_t count) {
  std::mt19937_64 common(Mix(seed, 0, static_cast<uint64_t>(type)));
  std::mt19937_64 own(Mix(seed, static_cast<uint64_t>(rank) + 1, static_cast<uint64_t>(type)));
  Bytes bytes(static_cast<size_t>(count * SizeOf(type)));
  WithType(type, [&]<class T>(T) {
    for (int64_t i = 0; i < count; ++i) {
      if constexpr (std::is_integral_v<T>) {
        Set<T>(bytes, i, IntegerElement<T>(own));
      } else {
        Set<T>(bytes, i, FloatElement<T>(own, common, op));
      }
    }
  });
  return bytes;
}

Bytes SpecialVector(uint64_t seed, int rank, DataType type, int64_t count) {
  Bytes bytes = TestVector(seed, rank, type, ReduceOp::kSum, count);
  std::mt19937_64 random(Mix(seed, static_cast<uint64_t>(rank) + 1, 99));
  WithType(type, [&]<class T>(T) {
    const std::vector<T> values = SpecialValues<T>();
    for (int64_t i = 0; i < count; ++i) {
      const uint64_t choice = random();
      if (choice % 3 != 0) continue;
      Set<T>(bytes, i, values[(choice >> 8) % values.size()]);
    }
  });
  return bytes;
}

Bytes ReferenceAllReduce(std::span<const Bytes> leaves, DataType type, ReduceOp op) {
  const int n = static_cast<int>(leaves.size());
  return ForEachElement(leaves, type, op, n, [&](const auto& values) { return Tree(values, 0, n, op); });
}

Bytes LeftToRightAllReduce(std::span<const Bytes> leaves, DataType type, ReduceOp op) {
  return ForEachElement(leaves, type, op, static_cast<int>(leaves.size()), [&](const auto& values) {
    auto sum = values[0];
    for (size_t i = 1; i < values.size(); ++i) sum = Combine(sum, values[i], op);
    return sum;
  });
}

Bytes ReferenceReduceScatter(std::span<const Bytes> vectors, DataType type, ReduceOp op, int rank) {
  const Bytes all = ReferenceAllReduce(vectors, type, op);
  const auto part = static_cast<std::ptrdiff_t>(all.size() / vectors.size());
  return Bytes(all.begin() + rank * part, all.begin() + (rank + 1) * part);
}

Bytes ReferenceAllGather(std::span<const Bytes> vectors) {
  Bytes all;
  for (const Bytes& vector : vectors) all.insert(all.end(), vector.begin(), vector.end());
  return all;
}

std::vector<Bytes> ReferencePartials(std::span<const Bytes> shards, int world_size, int rank, DataType type, ReduceOp op) {
  const ReduceOp combine = op == ReduceOp::kAvg ? ReduceOp::kSum : op;
  std::vector<Bytes> partials;
  for (const Partial& partial : OwnedPartials(static_cast<int32_t>(shards.size()), world_size, rank)) {
    partials.push_back(ReferenceAllReduce(shards.subspan(partial.first, partial.count), type, combine));
  }
  return partials;
}

namespace {

// Tree over the leaves [first, first + n), where some subtrees are known whole: `partials` and their places in `values`.
template <class W>
W TreeOfPartials(const std::vector<Partial>& partials, const std::vector<W>& values, int32_t first, int32_t n, ReduceOp op) {
  for (size_t i = 0; i < partials.size(); ++i) {
    if (partials[i] == Partial{first, n}) return values[i];
  }
  const int32_t left = LargestPowerBelow(n);
  return Combine(TreeOfPartials(partials, values, first, left, op),
                 TreeOfPartials(partials, values, first + left, n - left, op), op);
}

}  // namespace

Bytes ReferenceAllReduceShards(std::span<const std::vector<Bytes>> partials_by_rank, int32_t shards, DataType type,
                               ReduceOp op) {
  const int world_size = static_cast<int>(partials_by_rank.size());
  std::vector<Partial> partials;
  std::vector<Bytes> inputs;
  for (int rank = 0; rank < world_size; ++rank) {
    for (const Partial& partial : OwnedPartials(shards, world_size, rank)) partials.push_back(partial);
    for (const Bytes& bytes : partials_by_rank[rank]) inputs.push_back(bytes);
  }
  return ForEachElement(inputs, type, op, shards,
                        [&](const auto& values) { return TreeOfPartials(partials, values, 0, shards, op); });
}

std::string Difference(const Bytes& expected, const void* actual, DataType type) {
  if (expected.empty() || std::memcmp(expected.data(), actual, expected.size()) == 0) return "";
  return WithType(type, [&]<class T>(T) {
    const int64_t count = static_cast<int64_t>(expected.size() / sizeof(T));
    const Bytes got(static_cast<const unsigned char*>(actual), static_cast<const unsigned char*>(actual) + expected.size());
    std::string first;
    int64_t different = 0;
    for (int64_t i = 0; i < count; ++i) {
      const T want = Get<T>(expected, i), have = Get<T>(got, i);
      if (std::memcmp(&want, &have, sizeof(T)) == 0) continue;
      if (different++ == 0) first = "element " + std::to_string(i) + ": expected " + Hex(want) + ", got " + Hex(have);
    }
    return first + " (" + std::to_string(different) + " of " + std::to_string(count) + " differ)";
  });
}

std::string Describe(DataType type, ReduceOp op) { return std::string(Name(type)) + " " + Name(op); }

}  // namespace muster::test
