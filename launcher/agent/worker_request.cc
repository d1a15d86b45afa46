#include "launcher/agent/worker_request.h"

#include <errno.h>

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "launcher/agent/environment.h"

namespace muster {

absl::StatusOr<SpawnRequest> WorkerRequest(const AgentOptions& options, const agent::Spawn& action,
                                           const std::string& socket_name, const WorkerMpi& mpi, const WorkerNccl& nccl) {
  SpawnRequest request;
  request.slot = action.place.slot();
  WorkerProgram program = ProgramOf(options, action.place.application());
  if (program.program.empty()) return absl::InternalError("the coordinator named a program that the job does not have");
  request.program = std::move(program.program);
  request.argv = std::move(program.argv);
  request.working_directory = std::move(program.working_directory);
  request.cpus = action.place.cpus();
  request.memory_nodes = action.place.memory_nodes();
  request.binding_is_optional = options.placement && absl::StrContains(options.placement->bind_to(), "if-supported");
  WorkerPlace place;
  place.job_id = absl::BytesToHexString(options.job_id);
  place.socket_name = socket_name;
  place.temporary_folder = options.session_folder;
  place.master_address = action.prepare->master_address();
  place.master_port = action.prepare->master_port();
  place.network_interface = options.network_interface;
  place.rank = action.place.rank();
  place.world_size = action.prepare->world_size();
  place.local_rank = action.place.local_rank();
  place.local_world_size = static_cast<uint32_t>(action.prepare->places_size());
  place.group_rank = action.prepare->group_rank();
  place.nodes = std::max(1u, action.prepare->nodes());
  place.slot = action.place.slot();
  place.restarts = action.prepare->restarts();
  place.max_restarts = action.prepare->max_restarts();
  place.application = action.place.application();
  for (const WorkerProgram& one : options.applications) place.application_workers.push_back(one.workers);
  place.host = options.host;
  place.mpi = mpi;
  if (!options.nccl_environment_off) {
    for (const v1::NcclVariable& one : action.prepare->nccl().variables()) place.nccl.push_back({one.name(), one.value()});
    // "=" keeps NCCL from taking the name for a prefix.
    if (place.nodes > 1 && !place.network_interface.empty()) {
      place.nccl.push_back({"NCCL_SOCKET_IFNAME", absl::StrCat("=", place.network_interface)});
    }
    if (!nccl.topology_file.empty()) place.nccl.push_back({"NCCL_TOPO_FILE", nccl.topology_file});
    place.nccl_configured = nccl.configured;
  }
  request.env = WorkerEnvironment(options.inherited_environment, program.chosen_environment, place);
  return request;
}

agent::SpawnFailed NoRequest(const AgentOptions& options, const agent::Spawn& action, const absl::Status& job_taken,
                             const absl::Status& why) {
  agent::SpawnFailed failed{
      .slot = action.place.slot(), .error = EIO, .stage = std::string(why.message()), .spawn = action.spawn};
  if (absl::IsResourceExhausted(why)) {
    failed.error = EMFILE;
    failed.stage = "its pipes, see ulimit -n";
  } else if (!job_taken.ok() && (absl::IsNotFound(why) || absl::IsPermissionDenied(why))) {
    // Seen here already what execve would say.
    failed.error = absl::IsNotFound(why) ? ENOENT : EACCES;
    const WorkerProgram program = ProgramOf(options, action.place.application());
    failed.stage = absl::StrCat("execve ", program.argv.empty() ? "" : program.argv[0]);
  }
  return failed;
}

agent::SpawnFailed NoOutput(const agent::Spawn& action, const absl::Status& why) {
  return {.slot = action.place.slot(), .error = EIO, .stage = absl::StrCat("output: ", why.message()), .spawn = action.spawn};
}

}  // namespace muster
