// What the workers of this node may use, for their waiting policy and their windows.
#ifndef MUSTER_LAUNCHER_AGENT_WORKER_RESOURCES_H_
#define MUSTER_LAUNCHER_AGENT_WORKER_RESOURCES_H_

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "proto/muster/v1/waiting_policy.h"

namespace muster {

struct WindowMemory {
  int64_t bytes = 0;   // 0: no limit known
  std::string source;  // the file that says so
};
// The lowest cgroup limit above this process, else what the machine has available now.
WindowMemory FindWindowMemory();

// The value of "MemAvailable" in the text of /proc/meminfo in bytes, 0 if it is not there.
int64_t MemAvailableIn(absl::string_view meminfo);

// The processors that `pid` may run on; empty if it cannot be asked.
v1::ProcessorMask ProcessorsOf(pid_t pid);

// The cgroup's limit on processor time, 0 for none.
int64_t QuotaMillicores();

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_WORKER_RESOURCES_H_
