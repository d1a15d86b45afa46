// What the guard is told of a worker: from the job, the worker's place, and the agent it belongs to. Pure.
#ifndef MUSTER_LAUNCHER_AGENT_WORKER_REQUEST_H_
#define MUSTER_LAUNCHER_AGENT_WORKER_REQUEST_H_

#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "launcher/agent/agent_options.h"
#include "launcher/agent/environment.h"
#include "launcher/agent/table/agent_table.h"
#include "launcher/guard/guard_client.h"

namespace muster {

// What this node's NCCL has been told already, and what was written for it.
struct WorkerNccl {
  std::set<std::string> configured;  // variables of its own files (ConfiguredNcclVariables)
  std::string topology_file;         // for NCCL_TOPO_FILE; empty: none
};

// Without its descriptors. `socket_name`: the agent's, for workers. Errors: Internal (a program that the job does not have).
absl::StatusOr<SpawnRequest> WorkerRequest(const AgentOptions& options, const agent::Spawn& action,
                                           const std::string& socket_name, const WorkerMpi& mpi, const WorkerNccl& nccl);

// What the table hears of a worker for which no request could be made. `job_taken`: what AgentOptions.take_job said.
agent::SpawnFailed NoRequest(const AgentOptions& options, const agent::Spawn& action, const absl::Status& job_taken,
                             const absl::Status& why);

// The same where its generation's output files could not be opened.
agent::SpawnFailed NoOutput(const agent::Spawn& action, const absl::Status& why);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_WORKER_REQUEST_H_
