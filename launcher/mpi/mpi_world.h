// Who is where in the MPI world of one generation, as PMIx and PMI-1 want to be told. Pure.
#ifndef MUSTER_LAUNCHER_MPI_MPI_WORLD_H_
#define MUSTER_LAUNCHER_MPI_MPI_WORLD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "muster/v1/agent.pb.h"

namespace muster {

struct MpiPlace {
  uint32_t node = 0;  // an index into MpiWorld's nodes
  uint32_t local_rank = 0;
  uint32_t application = 0;
};

struct MpiWorld {
  std::string job_id;  // 16 bytes
  uint64_t generation = 0;
  std::vector<uint32_t> nodes;                // the job's numbers of them, ascending
  std::vector<std::string> hosts;             // of each, distinct
  std::vector<MpiPlace> places;               // by rank
  uint32_t node = 0;                          // the own one among `nodes`
  std::vector<uint32_t> application_workers;  // of each program

  std::vector<uint32_t> LocalRanks() const;  // of the own node, ascending
};

// The world that `prepare` begins on this node. `members` is null where there is but one node; `host` is this node's then.
// Errors: Internal, where the two do not fit together.
absl::StatusOr<MpiWorld> MakeMpiWorld(const std::string& job_id, uint64_t generation, const v1::Prepare& prepare,
                                      const v1::Members* members, const std::string& host,
                                      std::vector<uint32_t> application_workers);

// What MPI programs of this job and generation are one world by.
std::string MpiNameSpace(const std::string& job_id, uint64_t generation);

// PMI-1's "(vector,(FIRST_NODE,NODES,RANKS_ON_EACH),...)": which ranks share a node. A reader goes through the list again and again
// until every rank has its node. Empty: it would be longer than `bytes_max`; MPICH then finds out by itself.
// Source: MPICH, src/pmi/README and the wiki page "PMI_process_mapping".
std::string ProcessMapping(const std::vector<MpiPlace>& places, size_t bytes_max);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_MPI_MPI_WORLD_H_
