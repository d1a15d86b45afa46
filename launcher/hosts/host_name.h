// Names of hosts as host lists write them.
#ifndef MUSTER_LAUNCHER_HOSTS_HOST_NAME_H_
#define MUSTER_LAUNCHER_HOSTS_HOST_NAME_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

// One word of a list: [user@]name[:suffix].
struct HostWord {
  std::string user;                // empty: not said
  std::vector<std::string> names;  // several where the name has ranges
  std::string suffix;              // behind the ':'; empty: none
  bool has_suffix = false;
};

// "node[01-16]" and "rack[1-2]-node[1,3,5-7]" are names with ranges, numbered as in Slurm: as wide as the lower end is written.
// "[::1]:2" and "fe80::1%eth0" are IPv6 addresses; without brackets an address takes no suffix.
// A name begins with a letter, digit or '_' and holds those, '-' and '.': nothing that another program could take for an option.
// Errors: InvalidArgument that says what is wrong with `word` (without repeating it) and what would be right; also for more than
// kHostsMax names.
absl::StatusOr<HostWord> ParseHostWord(absl::string_view word);

// The slots that a suffix names: a number from 1 to kHostSlotsMax; "auto" and "*" are 0, for as many as there are cores.
absl::StatusOr<int64_t> ParseSlots(absl::string_view text);

// A word of the user's as errors show it: on one line, and not all of it when it is long.
std::string Shown(absl::string_view word);

// Whether `name` means the machine itself: localhost, a loopback address, or `own_name` (with or without its domain).
bool IsThisMachine(absl::string_view name, absl::string_view own_name);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_HOSTS_HOST_NAME_H_
