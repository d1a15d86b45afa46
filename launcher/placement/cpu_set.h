// A set of processors (hardware threads) or of memory nodes, by the operating system's numbers.
#ifndef MUSTER_LAUNCHER_PLACEMENT_CPU_SET_H_
#define MUSTER_LAUNCHER_PLACEMENT_CPU_SET_H_

#include <cstdint>
#include <initializer_list>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

class CpuSet {
 public:
  static constexpr uint32_t kNumberMax = 1u << 16;

  CpuSet() = default;
  CpuSet(std::initializer_list<uint32_t> numbers) : numbers_(numbers) {}
  // The kernel's list format, as in /proc/self/status: "0-3,8". Empty text is the empty set.
  // Errors: InvalidArgument, for what is no such list or beyond kNumberMax.
  static absl::StatusOr<CpuSet> Parse(absl::string_view list);
  std::string ListText() const;

  void Add(uint32_t number) { numbers_.insert(number); }
  void Add(const CpuSet& other) { numbers_.insert(other.numbers_.begin(), other.numbers_.end()); }
  bool Contains(uint32_t number) const { return numbers_.contains(number); }
  bool Intersects(const CpuSet& other) const;
  CpuSet And(const CpuSet& other) const;
  CpuSet Without(const CpuSet& other) const;
  bool empty() const { return numbers_.empty(); }
  size_t size() const { return numbers_.size(); }
  const std::set<uint32_t>& numbers() const { return numbers_; }
  friend bool operator==(const CpuSet&, const CpuSet&) = default;

 private:
  std::set<uint32_t> numbers_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PLACEMENT_CPU_SET_H_
