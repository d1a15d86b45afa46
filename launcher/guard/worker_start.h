// The guard's one difficult step: from a spawn request to a running program.
#ifndef MUSTER_LAUNCHER_GUARD_WORKER_START_H_
#define MUSTER_LAUNCHER_GUARD_WORKER_START_H_

#include <signal.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <vector>

#include "launcher/guard/guard_protocol.h"
#include "runtime/base/fd.h"

namespace muster::guard {

// What a terminal or a batch system sends to every process that it finds: the agent's to act on, and ignored by keeper and guard.
inline constexpr int kSignalsForTheAgent[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};

// What went wrong in the child, as it comes through the error pipe.
struct StartError {
  Stage stage = Stage::kNone;
  int error = 0;
};

struct StartedWorker {
  pid_t pid = -1;
  UniqueFd pidfd;
  UniqueFd error_pipe;  // ends without a byte once exec has succeeded, else holds one StartError
};

// Forks the worker; `descriptors` are stdin, stdout, stderr and the blob (guard_protocol.h), `open_files` is the worker's limit
// of them. Does not wait for exec.
StartError StartWorker(const Request& request, const std::vector<UniqueFd>& descriptors, const rlimit& open_files,
                       StartedWorker* worker);

}  // namespace muster::guard

#endif  // MUSTER_LAUNCHER_GUARD_WORKER_START_H_
