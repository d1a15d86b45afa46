// What the user asks of placement, in mpirun's words: --map-by, --rank-by, --bind-to and their modifiers.
//
// Source: mpirun(1) of Open MPI 4.1, whose defaults hold as soon as one of the three is given. Without any of them ranks are spread
// over the nodes evenly and bound to nothing.
#ifndef MUSTER_LAUNCHER_PLACEMENT_POLICY_H_
#define MUSTER_LAUNCHER_PLACEMENT_POLICY_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace muster {

// Where a rank may be put, from the widest to the narrowest.
enum class PlacementLevel { kNone, kSlot, kNode, kPackage, kNuma, kL3Cache, kL2Cache, kL1Cache, kCore, kHwthread };
const char* LevelName(PlacementLevel level);

struct PlacementPolicy {
  std::optional<PlacementLevel> map_by;  // never kNone
  uint32_t per_object = 0;               // ppr:N:OBJECT, with the object in map_by; 0: no such pattern
  bool span = false;                     // :SPAN
  std::optional<bool> oversubscribe;     // :OVERSUBSCRIBE, :NOOVERSUBSCRIBE
  uint32_t cpus_per_rank = 0;            // :PE=N, --cpus-per-proc; 0: not said
  bool hwthread_cpus = false;            // --use-hwthread-cpus: hardware threads count as processors of their own
  std::optional<PlacementLevel> rank_by;
  bool rank_span = false;
  bool rank_fill = false;
  std::optional<PlacementLevel> bind_to;  // never kSlot or kNode
  bool overload_allowed = false;
  bool if_supported = false;  // do not fail where the system refuses the binding
  std::string cpu_list;       // --cpu-set: of each node only these, "0-3,8"; empty: all that are usable

  // Whether anything was asked that needs a map.
  bool wanted() const {
    return map_by.has_value() || rank_by.has_value() || bind_to.has_value() || cpus_per_rank > 0 || hwthread_cpus ||
           !cpu_list.empty() || overload_allowed;
  }
};

// Each reads the value of its flag into `policy`. Errors: InvalidArgument, with the flag, what it takes, and the nearest name.
absl::Status ParseMapBy(absl::string_view value, PlacementPolicy* policy);
absl::Status ParseRankBy(absl::string_view value, PlacementPolicy* policy);
absl::Status ParseBindTo(absl::string_view value, PlacementPolicy* policy);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PLACEMENT_POLICY_H_
