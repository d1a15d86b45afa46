// Who was turned away in a job, by whom and why: counted exactly, told of seldom. Pure.
#ifndef MUSTER_LAUNCHER_COORDINATOR_REFUSAL_LEDGER_H_
#define MUSTER_LAUNCHER_COORDINATOR_REFUSAL_LEDGER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace muster {

// Strangers choose how often they come and how many kinds there are, never how much is kept or told of them. Not thread-safe.
class RefusalLedger {
 public:
  static constexpr size_t kKindsMax = 64;
  static constexpr const char* kOtherKinds = "connections of further kinds";

  struct Entry {
    std::string by;    // "the coordinator", "host node-b"
    std::string what;  // "plain text", "a stranger's connection: HTTP", ...
    std::string from;  // the last one: numeric address and port, or process
    uint64_t count = 0;
    absl::Time last;
  };

  // What there is to tell: something the first time a kind is seen, and whenever its count has grown tenfold; else empty.
  std::string Note(const std::string& by, std::string what, std::string from, uint64_t count, absl::Time now);

  uint64_t total() const { return total_; }
  // In the order in which the kinds were first seen. Beyond kKindsMax they share one entry.
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  std::vector<Entry> entries_;
  uint64_t total_ = 0;
};

// "the coordinator turned away plain text, 3012 times, last from 10.0.0.9:5000"
std::string Sentence(const RefusalLedger::Entry& entry);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_COORDINATOR_REFUSAL_LEDGER_H_
