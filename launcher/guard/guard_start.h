// Starting the guard's process, in a PID namespace of its own where that is allowed.
#ifndef MUSTER_LAUNCHER_GUARD_GUARD_START_H_
#define MUSTER_LAUNCHER_GUARD_GUARD_START_H_

#include <sys/types.h>

#include <string>

#include "absl/status/statusor.h"
#include "launcher/guard/guard_client.h"
#include "runtime/base/fd.h"

namespace muster {

struct StartedGuard {
  pid_t pid = -1;
  UniqueFd pidfd;
  UniqueFd socket;  // non-blocking; closing it makes the guard end its tree
  UniqueFd alive;   // open as long as this process takes care of the session folder; see guard_protocol.h, janitor
  TreeCover cover = TreeCover::kSubreaper;
};

// Makes the calling process a subreaper, starts the guard (and, if there is a session folder, its janitor, another child) and
// waits until it serves; a guard that cannot have its namespace is followed by one without. Errors: what exec says of
// `guard_path`; Internal if it speaks another version or stays silent for 10 s.
absl::StatusOr<StartedGuard> StartGuard(const std::string& guard_path, const std::string& session_folder);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_GUARD_GUARD_START_H_
