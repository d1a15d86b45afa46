// --hostfile: mpirun's file of hosts.
#ifndef MUSTER_LAUNCHER_HOSTS_HOST_FILE_H_
#define MUSTER_LAUNCHER_HOSTS_HOST_FILE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "launcher/hosts/host.h"

namespace muster {

inline constexpr size_t kHostFileBytesMax = 4 << 20;

// A host a line; '#' and "//" begin a comment:
//
//   # name, or names with ranges (host_name.h)      as Open MPI's mpirun; name:2 is MPICH's way
//   node-a slots=4 max_slots=8
//   root@node[01-16] slots=2
//   [fe80::1]:2
//   node-b
//
// A host without slots holds as many as its cores, or its max_slots. A host of several lines holds what they give together, a line
// without slots being one then. `slots` may also be written count, cpu or cpus, and max_slots with '-' or as slots_max; user=NAME
// is NAME@host. Relative (+n0) and excluded (^name) hosts are refused.
// Errors: InvalidArgument with file, line, column, what is wrong and what would be right; a file that names nobody.
// Source: mpirun(1) of Open MPI 4.1, "Specifying Host Nodes"; hydra's hostfile of MPICH.
absl::StatusOr<std::vector<Host>> ParseHostFile(const std::string& file, absl::string_view text);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_HOSTS_HOST_FILE_H_
