// Time and chance for simulations: events in order of virtual time, and numbers from one seed.
#ifndef MUSTER_LAUNCHER_SIMULATOR_VIRTUAL_TIME_H_
#define MUSTER_LAUNCHER_SIMULATOR_VIRTUAL_TIME_H_

#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <utility>

#include "absl/time/time.h"

namespace muster {

// Not thread-safe. Events of the same instant run in the order in which they were added.
class VirtualTime {
 public:
  using Id = std::pair<absl::Duration, uint64_t>;

  absl::Duration now() const { return now_; }
  // As wall time, for stamps.
  absl::Time wall() const { return absl::FromUnixSeconds(1'700'000'000) + now_; }

  Id After(absl::Duration delay, std::function<void()> event) {
    const Id id{now_ + delay, next_++};
    events_.emplace(id, std::move(event));
    return id;
  }
  void Cancel(const Id& id) { events_.erase(id); }

  // Runs the earliest event; false if there is none.
  bool RunOne() {
    if (events_.empty()) return false;
    auto node = events_.extract(events_.begin());
    now_ = node.key().first;
    node.mapped()();
    return true;
  }

 private:
  absl::Duration now_;
  uint64_t next_ = 0;
  std::map<Id, std::function<void()>> events_;
};

// The same numbers for the same seed on every machine.
class Chance {
 public:
  explicit Chance(uint64_t seed) : bits_(seed) {}
  uint64_t Below(uint64_t end) { return bits_() % end; }
  bool Happens(double probability) { return static_cast<double>(bits_() >> 11) * 0x1p-53 < probability; }
  absl::Duration Between(absl::Duration least, absl::Duration most) {
    const int64_t span = absl::ToInt64Microseconds(most - least);
    return least + absl::Microseconds(static_cast<int64_t>(Below(static_cast<uint64_t>(span) + 1)));
  }

 private:
  std::mt19937_64 bits_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_SIMULATOR_VIRTUAL_TIME_H_
