// Cutting a run of elements into parts that begin on cache lines (counted from the first element).
#ifndef MUSTER_RUNTIME_SHM_SPLIT_H_
#define MUSTER_RUNTIME_SHM_SPLIT_H_

#include <algorithm>
#include <cstdint>

namespace muster {

struct Range {
  int64_t first = 0;
  int64_t count = 0;
};

// Elements in each of `parts` equal parts of `count`, the last ones shorter or empty.
constexpr int64_t PartElements(int64_t count, int64_t parts, int64_t element_bytes) {
  const int64_t line = 64 / element_bytes;
  const int64_t part = (count + parts - 1) / parts;
  return (part + line - 1) / line * line;
}

// Part `index` of those that are `part` elements long.
constexpr Range PartOf(int64_t count, int64_t part, int64_t index) {
  const int64_t first = std::min(count, index * part);
  return {first, std::min(part, count - first)};
}

}  // namespace muster

#endif  // MUSTER_RUNTIME_SHM_SPLIT_H_
