// Starting the guard's process, in a PID namespace of its own where that is allowed.
#ifndef MUSTER_LAUNCHER_GUARD_GUARD_START_H_
#define MUSTER_LAUNCHER_GUARD_GUARD_START_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launcher/guard/guard_client.h"
#include "launcher/guard/guard_protocol.h"
#include "runtime/base/fd.h"

namespace muster {

struct StartedGuard {
  pid_t keeper = -1;  // our child (guard_protocol.h); when it has ended, so has the guard
  UniqueFd keeper_pidfd;
  pid_t guard = -1;
  UniqueFd socket;  // non-blocking; closing it makes the guard end its tree
  TreeCover cover = TreeCover::kSubreaper;
};

// A guard's process that has been started and may not serve yet.
struct BegunGuard::Impl {
  std::string path, session_folder;
  std::vector<pid_t> spared;  // children that this process had before
  StartedGuard started;
};

// Makes the calling process a subreaper and starts the guard. Errors: those of the kernel.
absl::StatusOr<std::unique_ptr<BegunGuard::Impl>> BeginGuard(const std::string& guard_path, const std::string& session_folder);
// Waits until it serves; a guard that cannot have its namespace is followed by one without. Errors: what exec says of its path;
// Internal if it speaks another version or stays silent for 10 s.
absl::Status AwaitGuard(BegunGuard::Impl* begun);

// One reply and, if it carries one, its descriptor. As recvmsg(2), with flags such as MSG_DONTWAIT.
ssize_t ReceiveReply(int socket, guard::Reply* reply, UniqueFd* descriptor, int flags);

// The process behind a pidfd by the number it has in this process's PID namespace; -1 if it is already reaped.
pid_t PidOf(int pidfd);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_GUARD_GUARD_START_H_
