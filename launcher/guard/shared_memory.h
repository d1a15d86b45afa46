// What programs of a job may leave in /dev/shm when they are killed: MPI libraries keep files there. Knows libc and the standard
// library only, because the guard does.
#ifndef MUSTER_LAUNCHER_GUARD_SHARED_MEMORY_H_
#define MUSTER_LAUNCHER_GUARD_SHARED_MEMORY_H_

#include <cstdint>
#include <string>

namespace muster::guard {

// The job's own folder there, which belongs to its session folder: made by whoever gives it to a program, removed with that one.
std::string SharedMemoryFolder(const std::string& session_folder);

// Removes that folder, and what MPI libraries put beside it under names that nobody can choose (MPICH, UCX; Open MPI where it was
// told otherwise): files of this user with such a name, made since `since_ns`, that no process has open or mapped. So the calling
// process must see all of the user's processes: the first one of a PID namespace must not call it. Errors are passed over.
void RemoveSharedMemory(const std::string& session_folder, int64_t since_ns);

// Wall time in nanoseconds since 1970, as file systems stamp files: never later than what is made from now on.
int64_t FileTimeNow();

}  // namespace muster::guard

#endif  // MUSTER_LAUNCHER_GUARD_SHARED_MEMORY_H_
