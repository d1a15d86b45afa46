// Which host runs how many of a job's workers.
#ifndef MUSTER_LAUNCHER_HOSTS_HOST_SLOTS_H_
#define MUSTER_LAUNCHER_HOSTS_HOST_SLOTS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "launcher/hosts/host.h"

namespace muster {

// How ranks go onto hosts, as far as it decides which hosts take part and how many slots each has.
enum class HostFill {
  kSlot,     // a host's slots are filled, then the next one's
  kNode,     // to each host in turn, while it has slots
  kPattern,  // `per_host` to each host, until there are enough
  kEvery,    // hangs on what the machines look like: every host takes part with all its slots
};

// What the user says beside the list of hosts.
struct HostWishes {
  int64_t workers = 0;           // -np; 0: one for each slot
  int64_t workers_max = 0;       // no more without -np; 0: none
  int64_t hosts = 0;             // --nodes: the first ones of the list; 0: as many as it takes
  int64_t workers_per_host = 0;  // --nproc-per-node: instead of slots; 0: not said
  bool oversubscribe = false;    // more workers than slots are wanted
  HostFill fill = HostFill::kSlot;
  int64_t per_host = 0;  // of kPattern
};

struct HostShare {
  Host host;
  int64_t workers = 0;  // at least 1; of kEvery what it may hold
};

// As mpirun maps: by slot a host's slots are filled, then the next one's, and what is left with `oversubscribe` goes to the hosts as
// evenly as can be, the first ones one more; by node as evenly as slots allow. Hosts that get nothing are left out. Every host's slots
// are known (slots > 0). Errors: InvalidArgument that says how many slots there are and what the remedies are.
// Source: Open MPI 4.1, orte/mca/rmaps/round_robin (by slot, by node) and ppr.
absl::StatusOr<std::vector<HostShare>> FillHosts(const std::vector<Host>& hosts, const HostWishes& wishes);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_HOSTS_HOST_SLOTS_H_
