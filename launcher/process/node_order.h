// The order of a generation's nodes by what is known of the network between them, as the coordinator's tables take it.
#ifndef MUSTER_LAUNCHER_PROCESS_NODE_ORDER_H_
#define MUSTER_LAUNCHER_PROCESS_NODE_ORDER_H_

#include <vector>

#include "absl/status/statusor.h"
#include "launcher/coordinator/membership.h"
#include "launcher/labels/network.h"
#include "muster/v1/launch.pb.h"

namespace muster {

// The user's files, read. Errors: InvalidArgument, of the files' readers; the command has read them before, so it says them.
absl::StatusOr<std::vector<NetworkSource>> SourcesOfKnowledge(const v1::NetworkKnowledge& knowledge);

// For membership::Options. Whom it believes: the user's files in their order, then what the agents were told by Slurm or Kubernetes.
// Null where the user has chosen another order (--map-by, --rank-by).
// Errors: as SourcesOfKnowledge.
absl::StatusOr<membership::OrderFunction> MakeOrderFunction(const v1::NetworkKnowledge& knowledge);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_NODE_ORDER_H_
