// Placement as the coordinator's tables take it: from the job's wishes and the agents' topologies to a seat for each rank.
#ifndef MUSTER_LAUNCHER_PROCESS_SEATING_H_
#define MUSTER_LAUNCHER_PROCESS_SEATING_H_

#include "absl/status/statusor.h"
#include "launcher/coordinator/membership.h"
#include "launcher/hosts/host_slots.h"
#include "launcher/placement/policy.h"
#include "muster/v1/agent.pb.h"

namespace muster {

// Errors: InvalidArgument, as ParseMapBy and its like.
absl::StatusOr<PlacementPolicy> PolicyOf(const v1::Placement& placement);

// Which of the listed hosts take part follows from how ranks are mapped onto them.
void TakeFill(const PlacementPolicy& policy, HostWishes* wishes);

// For membership::Options. Its lines are what --report-bindings and --display-map ask for, and what could not be had. Topologies
// that are alike are read once.
absl::StatusOr<membership::PlaceFunction> MakePlaceFunction(const v1::Placement& placement);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_SEATING_H_
