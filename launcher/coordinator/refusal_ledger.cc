#include "launcher/coordinator/refusal_ledger.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace muster {
namespace {

// Counts of one digit, of two, ...: 0 has none.
int Digits(uint64_t count) {
  int digits = 0;
  for (; count > 0; count /= 10) ++digits;
  return digits;
}

}  // namespace

std::string RefusalLedger::Note(const std::string& by, std::string what, std::string from, uint64_t count, absl::Time now) {
  count = std::max<uint64_t>(1, count);
  total_ += count;
  const auto find = [&] {
    return std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.by == by && e.what == what; });
  };
  auto entry = find();
  if (entry == entries_.end() && entries_.size() + 1 >= kKindsMax) {
    entry = std::find_if(entries_.begin(), entries_.end(), [](const Entry& e) { return e.what == kOtherKinds; });
    if (entry == entries_.end()) what = kOtherKinds;
  }
  if (entry == entries_.end()) entry = entries_.insert(entries_.end(), {by, std::move(what), "", 0, now});
  entry->from = std::move(from);
  entry->last = now;
  const int digits = Digits(entry->count);
  entry->count += count;
  return Digits(entry->count) > digits ? Sentence(*entry) : "";
}

std::string Sentence(const RefusalLedger::Entry& entry) {
  return absl::StrCat(entry.by, " turned away ", entry.what,
                      entry.count > 1 ? absl::StrCat(", ", entry.count, " times, last") : "", " from ", entry.from);
}

}  // namespace muster
