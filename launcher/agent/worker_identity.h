// Who is at the other end of a Unix socket, and whose child it is.
#ifndef MUSTER_LAUNCHER_AGENT_WORKER_IDENTITY_H_
#define MUSTER_LAUNCHER_AGENT_WORKER_IDENTITY_H_

#include <sys/types.h>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

struct PeerIdentity {
  pid_t pid = 0;  // in our PID namespace, whatever the peer's own is; 0: not visible from here
  uid_t uid = 0;
};

// SO_PEERCRED: who connected, as the kernel saw it then.
absl::StatusOr<PeerIdentity> IdentifyPeer(int socket);

// The parent in the text of /proc/PID/stat, 0 if there is none. The command's name in it may hold spaces and parentheses.
pid_t ParentIn(absl::string_view stat);

// Whether `pid` is `ancestor` or descends from it, by /proc.
bool DescendsFrom(pid_t pid, pid_t ancestor);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_WORKER_IDENTITY_H_
