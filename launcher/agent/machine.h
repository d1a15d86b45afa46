// What this process may use of the machine: cores and memory, cgroup limits (v1 and v2) counted.
#ifndef MUSTER_LAUNCHER_AGENT_MACHINE_H_
#define MUSTER_LAUNCHER_AGENT_MACHINE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace muster {

struct UsableCores {
  int affinity = 1;             // cores that sched_getaffinity allows
  std::optional<double> quota;  // cores' worth of time the cgroups grant; empty: no limit
  // What a default of one worker a core should be: the lower of both, the quota rounded up, at least 1.
  int count() const;
};
UsableCores FindUsableCores();

struct MemoryLimit {
  int64_t machine_bytes = 0;
  std::optional<int64_t> cgroup_bytes;  // the lowest limit on the way to the root; empty: no limit
  std::string cgroup_file;              // that states it
  int64_t bytes() const;                // the lower of both
};
MemoryLimit FindMemoryLimit();

// The kernel's count of processes it has killed for memory in this process's cgroup.
struct OutOfMemoryKills {
  std::string file;
  int64_t count = 0;
};
std::optional<OutOfMemoryKills> ReadOutOfMemoryKills();
// If there were more since `before`, which limit was hit, as in "memory limit of 4.0 GiB in /sys/fs/cgroup/memory.events"; else
// empty.
std::string NewOutOfMemoryKill(const std::optional<OutOfMemoryKills>& before);

// "4.0 GiB".
std::string HumanBytes(int64_t bytes);

struct CgroupFolders {
  bool version_2 = false;
  std::vector<std::string> folders;  // the process's own first, then its parents as far as they are visible
};
// Where the limits of `controller` ("cpu", "memory") stand for a process with this /proc/PID/cgroup and /proc/PID/mountinfo. A
// v1 hierarchy of the controller goes before v2. Pure. Source: cgroups(7), proc_pid_mountinfo(5).
CgroupFolders FindCgroupFolders(const std::string& cgroup_text, const std::string& mountinfo_text,
                                const std::string& controller);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_MACHINE_H_
