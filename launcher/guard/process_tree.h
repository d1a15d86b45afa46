// Finding and ending the descendants of a process. Knows libc and the standard library only, because the guard does.
#ifndef MUSTER_LAUNCHER_GUARD_PROCESS_TREE_H_
#define MUSTER_LAUNCHER_GUARD_PROCESS_TREE_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace muster::guard {

using Reaped = std::function<void(pid_t pid, int wait_status)>;

// Kills every descendant of the calling process except `spared` children and theirs, reaps, and repeats until none is left. The
// caller is a subreaper (prctl PR_SET_CHILD_SUBREAPER), so what loses its parent becomes its child and is found in the next
// pass. False if `timeout_ms` (-1: none) passed first, or if all that are left belong to another user and may not be signalled.
bool EndDescendants(const std::vector<pid_t>& spared, int timeout_ms, const Reaped& reaped);

// The same for the first process of a PID namespace: kills everything in the namespace but itself and waits for it.
void EndNamespace(const Reaped& reaped);

// The calling process's children that are alive or not yet reaped.
std::vector<pid_t> Children();

// Removes a folder and everything in it, never following a link or leaving its file system. Errors are passed over.
void RemoveFolder(const char* path);

// fork() into a new PID namespace and a new mount namespace: the child is the first process of both. -1 and errno on failure.
// Only async-signal-safe calls are allowed in the child until it execs.
pid_t ForkIntoNamespace();
// For that child: no mount it makes is seen outside, and /proc shows the new namespace. Returns 0 or errno.
int MountNamespaceProc();

}  // namespace muster::guard

#endif  // MUSTER_LAUNCHER_GUARD_PROCESS_TREE_H_
