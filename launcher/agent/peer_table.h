// Who the other ranks of a generation are and where they take connections: the coordinator's member table as the control memory
// holds it. Pure.
#ifndef MUSTER_LAUNCHER_AGENT_PEER_TABLE_H_
#define MUSTER_LAUNCHER_AGENT_PEER_TABLE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "muster/v1/agent.pb.h"
#include "proto/muster/v1/control_memory.h"

namespace muster {

// Whether the ranks of each node follow each other in `members`, which is by rank.
bool RanksFollowEachOther(const v1::Members& members);

// One entry for each rank, by rank. Nodes are numbered anew, by their first rank: those of Members are of the whole job.
// Errors: InvalidArgument (a rank is missing or there twice, ranks of a node do not follow each other or have other local ranks
// than 0, 1, .., a node without a numeric address, a rank without a port), which names rank or node.
absl::StatusOr<std::vector<v1::PeerEntry>> PeersOf(const v1::Members& members, uint32_t world_size);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_PEER_TABLE_H_
