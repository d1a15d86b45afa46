#include "launcher/agent/environment.h"

#include <map>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launcher/agent/program_error.h"
#include "launcher/nccl/user_choice.h"

namespace muster {
namespace {

using Variables = std::map<std::string, std::string>;

constexpr char kOmpThreads[] = "OMP_NUM_THREADS";

void Add(Variables* variables, const std::vector<std::string>& settings) {
  for (const std::string& setting : settings) {
    const size_t equals = setting.find('=');
    if (equals != std::string::npos && equals > 0) (*variables)[setting.substr(0, equals)] = setting.substr(equals + 1);
  }
}

constexpr absl::string_view kPmixSettings = "PMIX_MCA_";  // of libpmix, which a user may choose

// Where a process stands, and by whom it was started.
bool IsPmixPlace(const std::string& name) { return absl::StartsWith(name, "PMIX_") && !absl::StartsWith(name, kPmixSettings); }

// An Open MPI or MPICH program would otherwise call the launcher that muster itself was started by.
bool BelongsToOuterLauncher(const std::string& name) {
  // What Slurm says of a task: of the agent's, that is, of which there is one a node.
  static const auto& kTaskOfSlurm = *new std::set<std::string>{
      "SLURM_PROCID",   "SLURM_LOCALID",         "SLURM_NODEID", "SLURM_GTIDS",        "SLURM_TASK_PID",
      "SLURM_NTASKS",   "SLURM_NTASKS_PER_NODE", "SLURM_NPROCS", "SLURM_DISTRIBUTION", "SLURM_LAUNCH_NODE_IPADDR",
      "SLURM_CPU_BIND", "SLURM_MPI_TYPE"};
  if (kTaskOfSlurm.count(name) != 0 || absl::StartsWith(name, "SLURM_STEP") || absl::StartsWith(name, "SLURM_SRUN_"))
    return true;
  return IsPmixPlace(name) || absl::StartsWith(name, "PMI_") || absl::StartsWith(name, "OMPI_COMM_WORLD_");
}

// What mpirun says to Open MPI's programs and to libpmix about itself; where it has set it, that is.
bool BelongsToMpirun(const std::string& name) {
  return absl::StartsWith(name, kPmixSettings) || absl::StartsWith(name, "OMPI_MCA_orte_") ||
         absl::StartsWith(name, "OMPI_MCA_ess") || absl::StartsWith(name, "OMPI_MCA_pmix") || absl::StartsWith(name, "ORTE_") ||
         name == "OMPI_MCA_initial_wdir" || name == "OMPI_MCA_mpi_yield_when_idle";
}

// Which programs the world has, as Open MPI 4.1 says it, and which of them a rank runs.
void AddApplications(const WorkerPlace& place, Variables* variables) {
  const std::vector<uint32_t> only = {place.world_size};
  const std::vector<uint32_t>& workers = place.application_workers.empty() ? only : place.application_workers;
  std::vector<uint32_t> first_ranks;
  uint32_t rank = 0;
  for (const uint32_t count : workers) {
    first_ranks.push_back(rank);
    rank += count;
  }
  (*variables)["OMPI_NUM_APP_CTX"] = absl::StrCat(workers.size());
  (*variables)["OMPI_APP_CTX_NUM_PROCS"] = absl::StrJoin(workers, " ");
  (*variables)["OMPI_FIRST_RANKS"] = absl::StrJoin(first_ranks, " ");
  (*variables)["MUSTER_APPLICATION"] = absl::StrCat(place.application);
}

void AddNccl(const WorkerPlace& place, Variables* variables) {
  std::set<std::string> said = place.nccl_configured;
  for (const auto& [name, value] : *variables) {
    if (absl::StartsWith(name, "NCCL_")) said.insert(name);
  }
  for (const auto& [name, value] : place.nccl) {
    if (UserVariableAgainst(name, said).empty()) variables->emplace(name, value);
  }
}

Variables PlaceVariables(const WorkerPlace& place) {
  const std::string rank = absl::StrCat(place.rank), world_size = absl::StrCat(place.world_size);
  const std::string local_rank = absl::StrCat(place.local_rank), local_world_size = absl::StrCat(place.local_world_size);
  Variables variables = {
      {"RANK", rank},
      {"LOCAL_RANK", local_rank},
      {"WORLD_SIZE", world_size},
      {"LOCAL_WORLD_SIZE", local_world_size},
      {"GROUP_RANK", absl::StrCat(place.group_rank)},
      {"GROUP_WORLD_SIZE", absl::StrCat(place.nodes)},
      {"ROLE_NAME", "default"},
      {"ROLE_RANK", rank},
      {"ROLE_WORLD_SIZE", world_size},
      {"MASTER_ADDR", place.master_address},
      {"MASTER_PORT", absl::StrCat(place.master_port)},
      {"TORCHELASTIC_RUN_ID", place.job_id},
      {"TORCHELASTIC_RESTART_COUNT", absl::StrCat(place.restarts)},
      {"TORCHELASTIC_MAX_RESTARTS", absl::StrCat(place.max_restarts)},
      {"TORCHELASTIC_USE_AGENT_STORE", "False"},
      {"OMPI_COMM_WORLD_RANK", rank},
      {"OMPI_COMM_WORLD_SIZE", world_size},
      {"OMPI_COMM_WORLD_LOCAL_RANK", local_rank},
      {"OMPI_COMM_WORLD_LOCAL_SIZE", local_world_size},
      {"MUSTER_JOB_ID", place.job_id},
      {"MUSTER_SLOT", absl::StrCat(place.slot)},
  };
  AddApplications(place, &variables);
  variables.merge(MpiPlaceVariables(place.mpi.ports, place.host, place.temporary_folder, place.rank, place.world_size,
                                    place.local_rank, place.local_world_size));
  if (!place.socket_name.empty()) variables["MUSTER_SOCKET"] = place.socket_name;
  if (!place.temporary_folder.empty()) {
    variables["TMPDIR"] = place.temporary_folder;
    variables["TORCHELASTIC_ERROR_FILE"] = ProgramErrorFile(place.temporary_folder, place.rank);
  }
  return variables;
}

}  // namespace

std::vector<std::string> WorkerEnvironment(const std::vector<std::string>& inherited, const std::vector<std::string>& chosen,
                                           const WorkerPlace& place) {
  Variables variables;
  Add(&variables, inherited);
  const bool under_mpirun = variables.contains("PMIX_NAMESPACE");
  std::erase_if(variables, [under_mpirun](const auto& variable) {
    return BelongsToOuterLauncher(variable.first) || (under_mpirun && BelongsToMpirun(variable.first));
  });
  Variables fixed = PlaceVariables(place);
  if (!place.temporary_folder.empty()) variables.erase("TMPDIR");
  for (auto& [name, value] : fixed) {
    if (IsPlaceVariable(name)) variables[name] = value;
  }
  Add(&variables, chosen);
  variables.merge(fixed);  // those a user may choose: TMPDIR
  variables.emplace("PYTHONUNBUFFERED", "1");
  variables.merge(MpiDefaults(place.temporary_folder, place.mpi.shared_memory_folder, place.mpi.more_ranks_than_cores));
  if (place.local_world_size > 1) variables.emplace(kOmpThreads, "1");
  if (place.nodes > 1 && !place.network_interface.empty()) {
    variables.emplace("GLOO_SOCKET_IFNAME", place.network_interface);
    variables.emplace("TP_SOCKET_IFNAME", place.network_interface);
  }
  AddNccl(place, &variables);
  std::vector<std::string> environment;
  environment.reserve(variables.size());
  for (const auto& [name, value] : variables) environment.push_back(absl::StrCat(name, "=", value));
  return environment;
}

std::vector<std::string> PmixServerEnvironment(const std::vector<std::string>& inherited, const std::string& temporary_folder) {
  Variables variables;
  Add(&variables, inherited);
  const bool under_mpirun = variables.contains("PMIX_NAMESPACE");
  std::erase_if(variables, [under_mpirun](const auto& variable) {
    return IsPmixPlace(variable.first) || (under_mpirun && BelongsToMpirun(variable.first));
  });
  variables.erase("TMPDIR");
  if (!temporary_folder.empty()) variables["TMPDIR"] = temporary_folder;
  std::vector<std::string> environment;
  for (const auto& [name, value] : variables) environment.push_back(absl::StrCat(name, "=", value));
  return environment;
}

bool WouldSetOmpThreads(const std::vector<std::string>& inherited, const std::vector<std::string>& chosen,
                        uint32_t local_world_size) {
  Variables variables;
  Add(&variables, inherited);
  Add(&variables, chosen);
  return local_world_size > 1 && !variables.contains(kOmpThreads);
}

bool IsPlaceVariable(absl::string_view name) {
  if (name == "TMPDIR") return false;
  if (name == "MUSTER_SOCKET" || name == "TORCHELASTIC_ERROR_FILE" || IsMpiPlaceVariable(name)) return true;
  static const auto& kNames = *new Variables(PlaceVariables(WorkerPlace{}));
  return kNames.contains(std::string(name));
}

}  // namespace muster
