// Connections that were turned away, counted by what was wrong with them, until somebody can be told.
#ifndef MUSTER_RUNTIME_BASE_REFUSAL_TALLY_H_
#define MUSTER_RUNTIME_BASE_REFUSAL_TALLY_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace muster {

struct RefusalCount {
  std::string what;  // "a stranger's connection", "wrong key", ...
  std::string from;  // the last one: numeric address and port, or process
  uint64_t count = 0;
};

// Strangers choose how many kinds there are: beyond a few they share one entry. Not thread-safe.
class RefusalTally {
 public:
  static constexpr size_t kKindsMax = 16;
  static constexpr const char* kOtherKinds = "connections of further kinds";

  void Add(std::string what, std::string from, uint64_t count = 1) {
    RefusalCount* entry = Find(what);
    if (entry == nullptr && counts_.size() + 1 >= kKindsMax) {
      what = kOtherKinds;
      entry = Find(what);
    }
    if (entry == nullptr) {
      counts_.push_back({std::move(what), std::move(from), count});
    } else {
      entry->from = std::move(from);
      entry->count += count;
    }
  }

  bool empty() const { return counts_.empty(); }

  // The kind that has waited longest; only while not empty.
  RefusalCount Take() {
    RefusalCount first = std::move(counts_.front());
    counts_.erase(counts_.begin());
    return first;
  }

 private:
  RefusalCount* Find(const std::string& what) {
    for (RefusalCount& entry : counts_) {
      if (entry.what == what) return &entry;
    }
    return nullptr;
  }

  std::vector<RefusalCount> counts_;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_BASE_REFUSAL_TALLY_H_
