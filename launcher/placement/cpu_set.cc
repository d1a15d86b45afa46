#include "launcher/placement/cpu_set.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace muster {

absl::StatusOr<CpuSet> CpuSet::Parse(absl::string_view list) {
  CpuSet set;
  list = absl::StripAsciiWhitespace(list);
  if (list.empty()) return set;
  for (absl::string_view part : absl::StrSplit(list, ',')) {
    const std::pair<absl::string_view, absl::string_view> ends = absl::StrSplit(part, absl::MaxSplits('-', 1));
    uint32_t first = 0, last = 0;
    const bool range = part.find('-') != absl::string_view::npos;
    if (!absl::SimpleAtoi(ends.first, &first) || !absl::SimpleAtoi(range ? ends.second : ends.first, &last) || first > last ||
        last >= kNumberMax) {
      return absl::InvalidArgumentError(absl::StrCat("'", list, "' is no list of processors; write it like 0-3,8"));
    }
    for (uint32_t number = first; number <= last; ++number) set.Add(number);
  }
  return set;
}

std::string CpuSet::ListText() const {
  std::string text;
  for (auto next = numbers_.begin(); next != numbers_.end();) {
    const uint32_t first = *next;
    uint32_t last = first;
    for (++next; next != numbers_.end() && *next == last + 1; ++next) last = *next;
    absl::StrAppend(&text, text.empty() ? "" : ",", first, first == last ? "" : absl::StrCat("-", last));
  }
  return text;
}

bool CpuSet::Intersects(const CpuSet& other) const {
  return std::any_of(numbers_.begin(), numbers_.end(), [&other](uint32_t number) { return other.Contains(number); });
}

CpuSet CpuSet::And(const CpuSet& other) const {
  CpuSet both;
  for (const uint32_t number : numbers_) {
    if (other.Contains(number)) both.Add(number);
  }
  return both;
}

CpuSet CpuSet::Without(const CpuSet& other) const {
  CpuSet rest;
  for (const uint32_t number : numbers_) {
    if (!other.Contains(number)) rest.Add(number);
  }
  return rest;
}

}  // namespace muster
