// Which rank runs on which node, and on which of its processors: a pure function of topologies and policy.
//
// Its results, the order of ranks and the sets of processors, are those of Open MPI 4.1's mpirun for the same flags; a test runs
// mpirun beside it. Ranks are mapped to objects, numbered, laid onto objects once more in the order in which they were mapped on
// their node, and then bound to what is least used. Source: orte/mca/rmaps of Open MPI 4.1.
#ifndef MUSTER_LAUNCHER_PLACEMENT_PLACE_H_
#define MUSTER_LAUNCHER_PLACEMENT_PLACE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launcher/placement/cpu_set.h"
#include "launcher/placement/policy.h"
#include "launcher/placement/topology.h"

namespace muster {

// Processors that another job has bound its workers to.
struct HeldCpus {
  CpuSet cpus;
  int64_t pid = 0;  // of the process that holds them
};

struct PlacementNode {
  std::string host;
  uint32_t slots = 1;
  Topology topology;           // of what the job may use
  std::vector<HeldCpus> held;  // left out while there is enough without them
};

struct PlacedRank {
  uint32_t node = 0;  // index into the nodes
  uint32_t local_rank = 0;
  CpuSet cpus;          // empty: not bound
  CpuSet memory_nodes;  // of the cpus
};

struct PlacementMap {
  std::vector<PlacedRank> ranks;
  std::vector<std::string> notes;  // for the user: what could not be had, and what was done instead
};

// Errors: InvalidArgument where the flags contradict each other or the machine, ResourceExhausted where slots or processors do not
// suffice; both name the flag and the remedy.
absl::StatusOr<PlacementMap> PlaceRanks(const PlacementPolicy& policy, uint32_t workers,
                                        const std::vector<PlacementNode>& nodes);

// How many workers a pattern (ppr:N:OBJECT) means where -np is not said; 0 without one.
uint32_t WorkersOfPattern(const PlacementPolicy& policy, const std::vector<PlacementNode>& nodes);

// How many of `workers` each of `nodes` machines like this one may hold where nobody has said it: a pattern fills them one after the
// other, else as evenly as can be. At least 1 each.
std::vector<uint32_t> DefaultSlots(const PlacementPolicy& policy, uint32_t workers, uint32_t nodes, const Topology& machine);

// Whether ranks of a node follow each other, and nodes are in order: what muster's own collectives need.
bool RanksAreContiguous(const PlacementMap& map);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PLACEMENT_PLACE_H_
