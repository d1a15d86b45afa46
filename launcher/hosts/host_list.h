// -H a:2,b:2
#ifndef MUSTER_LAUNCHER_HOSTS_HOST_LIST_H_
#define MUSTER_LAUNCHER_HOSTS_HOST_LIST_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "launcher/hosts/host.h"

namespace muster {

// [user@]name[:slots],... with ranges (host_name.h). As with mpirun a name without slots is one slot, a name that comes again adds
// to its first, and `name:auto` (or `name:*`) is as many as it has cores. Hosts stand in the order of their first naming.
// `flag` is how errors call it ("-H"). Errors: InvalidArgument with the word, its number and the remedy.
// Source: mpirun(1) of Open MPI 4.1, "Specifying Host Nodes".
absl::StatusOr<std::vector<Host>> ParseHostList(absl::string_view flag, absl::string_view text);

// What is left of the hosts of a file when -H is given beside it: those that `chosen` names, in the file's order. A number of slots
// in `chosen` lowers the file's; names without one keep it.
// Errors: InvalidArgument for a host that the file does not name, with the nearest one that it does.
absl::StatusOr<std::vector<Host>> FilterHosts(const std::string& file, const std::vector<Host>& hosts, absl::string_view flag,
                                              absl::string_view chosen);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_HOSTS_HOST_LIST_H_
