// The environment of a worker: torchrun's names, mpirun's and muster's own. Pure.
#ifndef MUSTER_LAUNCHER_AGENT_ENVIRONMENT_H_
#define MUSTER_LAUNCHER_AGENT_ENVIRONMENT_H_

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "launcher/mpi/mpi_environment.h"

namespace muster {

// How a worker's MPI library finds its peers, where it has one.
struct WorkerMpi {
  MpiPorts ports;                      // of this generation; 0: none could be had
  std::string shared_memory_folder;    // empty: the library's own choice
  bool more_ranks_than_cores = false;  // on the node
};

// All that a worker's variables are made from.
struct WorkerPlace {
  std::string job_id;            // hexadecimal
  std::string socket_name;       // MUSTER_SOCKET; empty: none is set
  std::string temporary_folder;  // TMPDIR; empty: the inherited one stays
  std::string master_address;
  uint32_t master_port = 0;
  std::string network_interface;  // by which other nodes reach this one; empty: there are none, or it is not known
  uint32_t rank = 0;
  uint32_t world_size = 1;
  uint32_t local_rank = 0;
  uint32_t local_world_size = 1;
  uint32_t group_rank = 0;  // this node among `nodes`
  uint32_t nodes = 1;
  uint32_t slot = 0;
  uint32_t restarts = 0;
  uint32_t max_restarts = 0;
  uint32_t application = 0;                   // which of the job's programs this rank runs
  std::vector<uint32_t> application_workers;  // of each program, in the order of their ranks; empty: there is one
  std::string host;                           // as other nodes call it
  WorkerMpi mpi;
  std::vector<std::pair<std::string, std::string>>
      nccl;                               // variables for NCCL, unless the user has said something of the matter
  std::set<std::string> nccl_configured;  // what the user, or the machine's owner, has said in files of NCCL's
};

// `inherited` and `chosen` ("NAME=value") with the place's variables over them. Of an outer launcher's variables (PMIx, PMI, and
// what mpirun sets for Open MPI and libpmix) none is passed on. Defaults that only fill what is unset: PYTHONUNBUFFERED=1, OMP_NUM_THREADS=1 with
// more than one worker on the node, what Open MPI needs to know (MpiDefaults), and between nodes GLOO_SOCKET_IFNAME and
// TP_SOCKET_IFNAME: PyTorch's gloo and TensorPipe else take the address that the host's own name resolves to, which other nodes may not
// reach (127.0.1.1 on Debian). Those of `place.nccl` are such defaults too (launcher/nccl/user_choice.h).
std::vector<std::string> WorkerEnvironment(const std::vector<std::string>& inherited, const std::vector<std::string>& chosen,
                                           const WorkerPlace& place);

// muster-pmix's, which shares a library with the workers: `inherited`, with the settings of libpmix (PMIX_MCA_*) where and only where
// workers inherit them too. What a user has chosen for the workers alone is not for it. `temporary_folder`, its TMPDIR; empty: none.
std::vector<std::string> PmixServerEnvironment(const std::vector<std::string>& inherited, const std::string& temporary_folder);

// Whether WorkerEnvironment would fill in OMP_NUM_THREADS: users are told once.
bool WouldSetOmpThreads(const std::vector<std::string>& inherited, const std::vector<std::string>& chosen,
                        uint32_t local_world_size);

// Whether `name` says where a worker stands, so that it cannot be chosen.
bool IsPlaceVariable(absl::string_view name);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_ENVIRONMENT_H_
