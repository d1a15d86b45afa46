// What libpmix is told about a world, and what its fences are called between nodes. Pure.
#ifndef MUSTER_LAUNCHER_PMIX_PMIX_WORLD_H_
#define MUSTER_LAUNCHER_PMIX_PMIX_WORLD_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "muster/v1/mpi.pb.h"

namespace muster {

// Ranks, nodes and the own node are within bounds, and the own node has a rank. Errors: InvalidArgument.
absl::Status CheckWorld(const v1::PmixWorld& world);

struct PmixMaps {
  std::string hosts;                  // "node0,node1": PMIx_generate_regex's argument
  std::string ranks;                  // "0,1;2,3": PMIx_generate_ppn's
  std::vector<uint32_t> local_ranks;  // of the own node
};
PmixMaps MapsOf(const v1::PmixWorld& world);

// Every node takes part in the fences of one set of ranks in the same order, and names them by set and number.
class FenceNames {
 public:
  // Name and nodes of the next fence of `ranks`, in any order; empty: of all.
  v1::PmixFence Next(const v1::PmixWorld& world, std::vector<uint32_t> ranks);

 private:
  std::map<std::vector<uint32_t>, uint64_t> fences_;  // so far, by set
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PMIX_PMIX_WORLD_H_
