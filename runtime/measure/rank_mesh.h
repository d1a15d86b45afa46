// A mesh of its own among the ranks of a job, for programs that move bytes from rank to rank.
#ifndef MUSTER_RUNTIME_MEASURE_RANK_MESH_H_
#define MUSTER_RUNTIME_MEASURE_RANK_MESH_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/communicator.h"
#include "runtime/transport/mesh.h"

namespace muster {

// All ranks call it together. Ranks tell each other where they listen, and rank 0 the key, by collectives of `world`: connections of this
// mesh are authenticated as the job's own are, by a key that has crossed the network in the clear as all data of collectives does.
// `towards`: a numeric address that this machine reaches the others by (MASTER_ADDR); its own one on the way there is what it listens at.
// Errors: those of the collectives and of Mesh::Connect, InvalidArgument (no such address).
absl::StatusOr<std::unique_ptr<Mesh>> ConnectRanks(Communicator& world, const std::string& towards, int streams,
                                                   absl::Time deadline);

}  // namespace muster

#endif  // MUSTER_RUNTIME_MEASURE_RANK_MESH_H_
