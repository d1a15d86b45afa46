// The variables by which MPI libraries find muster: PMIx's (Open MPI and others) and PMI-1's (MPICH and its kin). Pure.
#ifndef MUSTER_LAUNCHER_MPI_MPI_ENVIRONMENT_H_
#define MUSTER_LAUNCHER_MPI_MPI_ENVIRONMENT_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/strings/string_view.h"

namespace muster {

struct MpiPorts {
  std::string name_space;  // MpiNameSpace
  uint16_t pmix = 0;       // of 127.0.0.1
  uint16_t pmi = 0;
};

// Where a rank stands; they replace what the user or an outer launcher has set.
std::map<std::string, std::string> MpiPlaceVariables(const MpiPorts& ports, const std::string& host, const std::string& folder,
                                                     uint32_t rank, uint32_t world_size, uint32_t local_rank,
                                                     uint32_t local_world_size);

// Settings of MPI libraries that the user may choose otherwise. `folder` and `shared_memory_folder` (empty: not said) are for what
// they put into files and shared memory; `more_ranks_than_cores` on this node.
std::map<std::string, std::string> MpiDefaults(const std::string& folder, const std::string& shared_memory_folder,
                                               bool more_ranks_than_cores);

// Whether `name` is one of MpiPlaceVariables.
bool IsMpiPlaceVariable(absl::string_view name);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_MPI_MPI_ENVIRONMENT_H_
