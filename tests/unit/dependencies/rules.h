// The dependency rules of tests/unit/dependencies.txt, and what a source file does against them.
#ifndef MUSTER_TESTS_UNIT_DEPENDENCIES_RULES_H_
#define MUSTER_TESTS_UNIT_DEPENDENCIES_RULES_H_

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

struct Room {
  std::set<std::string> rooms;      // that it may include, itself left out
  std::set<std::string> libraries;  // that it may include, the C++ standard library left out
};
using Rules = std::map<std::string, Room>;

// Errors: InvalidArgument with the line number: no two colons, a room twice, an edge to a room without a line, a circle of
// rooms.
absl::StatusOr<Rules> ParseRules(absl::string_view text);

// The room that holds `path` (from the top of the tree); empty when none does.
std::string RoomOf(const Rules& rules, absl::string_view path);

// One sentence for each #include of `text` that the rules do not allow, beginning with path and line; one without a line when
// the path lies in no room.
std::vector<std::string> Violations(const Rules& rules, absl::string_view path, absl::string_view text);

}  // namespace muster

#endif  // MUSTER_TESTS_UNIT_DEPENDENCIES_RULES_H_
