// Keeps jobs of one machine off each other's cores: a lock for each processor that a job binds its workers to.
//
// A lock is one byte of a file that all users and all namespaces of networks, processes and users share: /dev/shm/muster-cores (/tmp
// where that is not to be had), locked by fcntl. The kernel lets go of it when the agent dies, however it dies, and says who holds
// it. Abstract sockets, which would need no file, end at the network namespace, and nodes that muster plays on one machine have one
// each; flock does not say who holds. The file is empty and stays. Containers with a /dev/shm of their own do not see each other's
// locks; their cgroups' cpusets are what keeps them apart. Source: fcntl(2), advisory record locking.
//
// Agents of one job, which on a machine that plays several nodes each have all of it, do not stand in each other's way: beside its
// locks a holder writes which job it is of.
//
// Taking comes first, knowing what is needed comes later: an agent takes what is free, tells the coordinator, and lets go of what its
// workers are not bound to once it knows (Settle). Whoever comes in between sees locks that are not settled, and had better look again.
#ifndef MUSTER_LAUNCHER_AGENT_CORE_LOCKS_H_
#define MUSTER_LAUNCHER_AGENT_CORE_LOCKS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launcher/placement/cpu_set.h"
#include "launcher/placement/place.h"
#include "runtime/base/fd.h"

namespace muster {

// One in a process: fcntl's locks belong to the process, and closing one would let go of all. Belongs to one thread.
class CoreLocks {
 public:
  // `job_id`: 16 bytes. `folder` empty: /dev/shm, else /tmp. Errors: PermissionDenied and the like, with the file.
  static absl::StatusOr<CoreLocks> Open(const std::string& job_id, const std::string& folder = "");
  CoreLocks(CoreLocks&&) = default;
  CoreLocks& operator=(CoreLocks&&) = default;

  struct Taken {
    std::vector<HeldCpus> held;  // by others
    bool settled = true;         // false: some of it is held by somebody who may soon let go of it
  };
  // Takes all of `cpus` that nobody holds.
  Taken Take(const CpuSet& cpus);
  // Keeps those of `cpus` and lets go of the others. Returns what of `cpus` is not ours, with who holds it.
  std::vector<HeldCpus> Settle(const CpuSet& cpus);

 private:
  CoreLocks(UniqueFd file, uint64_t job) : file_(std::move(file)), job_(job) {}
  bool Lock(int64_t at);
  void Unlock(int64_t at);
  // The holder's process id, 0 if it cannot be seen; -1: nobody else holds it.
  int64_t HolderOf(int64_t at) const;

  bool Take(uint32_t cpu);
  // Whether an agent of our own job holds it.
  bool IsOurJobs(uint32_t cpu) const;

  UniqueFd file_;
  uint64_t job_ = 0;  // the first bytes of its id
  CpuSet ours_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_CORE_LOCKS_H_
