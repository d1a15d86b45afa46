// Names in the order in which a person counts them: node2 before node10.
#ifndef MUSTER_LAUNCHER_TOPOLOGY_NATURAL_ORDER_H_
#define MUSTER_LAUNCHER_TOPOLOGY_NATURAL_ORDER_H_

#include "absl/strings/string_view.h"

namespace muster {

// Runs of digits compare by their value, all else byte by byte; names that differ in leading zeros alone ("n1", "n01") compare as
// plain text. A strict total order.
bool NaturalLess(absl::string_view a, absl::string_view b);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_TOPOLOGY_NATURAL_ORDER_H_
