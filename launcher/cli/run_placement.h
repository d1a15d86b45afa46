// The flags of `muster run` that say which rank runs where: mpirun's, in all their spellings.
#ifndef MUSTER_LAUNCHER_CLI_RUN_PLACEMENT_H_
#define MUSTER_LAUNCHER_CLI_RUN_PLACEMENT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "launcher/cli/flags.h"
#include "muster/v1/agent.pb.h"

namespace muster {

struct PlacementOptions {
  std::string map_by, rank_by, bind_to;  // as typed; empty: not said
  std::string cpu_list;
  int64_t per_node = 0, per_package = 0;  // --npernode, --npersocket; 0: not said
  int64_t cpus_per_rank = 0;
  bool by_node = false, by_slot = false, by_core = false, by_package = false;
  bool bind_to_core = false, bind_to_package = false, bind_to_none = false;
  bool hwthread_cpus = false;
  bool report_bindings = false;
  bool display_map = false;
  bool do_not_launch = false;
  bool order_is_chosen = false;  // CheckPlacement: --map-by or --rank-by was said
  std::string topology;  // --topology: a description or an XML file; empty: this machine

  // Whether ranks are to be placed, or shown where they are. Otherwise they are spread evenly and bound to nothing.
  bool wanted() const;
};

void DeclarePlacement(FlagSet* flags, PlacementOptions* options);

// Those that start nothing: --do-not-launch and --topology.
void DeclarePlanning(FlagSet* flags, PlacementOptions* options);

// Turns the old spellings into --map-by and --bind-to and checks each word. Errors: InvalidArgument with the flag and the remedy.
absl::Status CheckPlacement(PlacementOptions* options);

// How many workers the flags mean on `nodes` machines like this one (or like --topology) where no number is said: those of a
// pattern, or as many as the machine has processors, by `usable` (what FindUsableCores counts). 0: the flags do not say.
absl::StatusOr<int64_t> WorkersOfPlacement(const PlacementOptions& options, int64_t nodes, int64_t usable);

// For a coordinator and its agents.
v1::Placement PlacementOf(const PlacementOptions& options);

// --do-not-launch: the map of `workers` ranks on nodes of these names as text, and what --report-bindings adds. `slots` may be empty.
absl::StatusOr<std::string> PlannedMap(const PlacementOptions& options, int64_t workers, const std::vector<std::string>& hosts,
                                       std::vector<uint32_t> slots);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_RUN_PLACEMENT_H_
