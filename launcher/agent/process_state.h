// What a process does just now, as /proc tells it.
#ifndef MUSTER_LAUNCHER_AGENT_PROCESS_STATE_H_
#define MUSTER_LAUNCHER_AGENT_PROCESS_STATE_H_

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace muster {

struct ProcessState {
  char letter = 0;           // of its main thread: R, S, D, T, t, Z, I; 0: it is gone, or not to be seen
  uint64_t cpu_ms = 0;       // user and system time of all its threads
  std::string wait_channel;  // the kernel function it sleeps in; empty: none, or not to be seen
};

ProcessState ReadProcessState(pid_t pid);

// Letter and CPU time from the text of /proc/PID/stat, whose second field may hold any character. Pure. Source: proc(5).
ProcessState ParseProcessStat(absl::string_view stat, int64_t ticks_per_second);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_PROCESS_STATE_H_
