#include "launcher/mpi/mpi_environment.h"

#include "absl/strings/str_cat.h"

namespace muster {

std::map<std::string, std::string> MpiPlaceVariables(const MpiPorts& ports, const std::string& host, const std::string& folder,
                                                     uint32_t rank, uint32_t world_size, uint32_t local_rank,
                                                     uint32_t local_world_size) {
  const std::string rank_text = absl::StrCat(rank);
  std::map<std::string, std::string> variables = {
      {"PMIX_NAMESPACE", ports.name_space},
      {"PMIX_RANK", rank_text},
      {"PMIX_SECURITY_MODE", "native"},
      {"PMIX_BFROP_BUFFER_TYPE", "PMIX_BFROP_BUFFER_NON_DESC"},
      {"PMIX_GDS_MODULE", "hash"},  // over the connection: the shared-memory stores would have to be there before the server is
      {"PMIX_HOSTNAME", host},
      {"PMI_PORT", absl::StrCat("127.0.0.1:", ports.pmi)},
      {"PMI_ID", rank_text},
      {"PMI_RANK", rank_text},
      {"PMI_SIZE", absl::StrCat(world_size)},
      {"MPI_LOCALRANKID", absl::StrCat(local_rank)},  // hydra's names
      {"MPI_LOCALNRANKS", absl::StrCat(local_world_size)},
  };
  // A client of version N reads the name of N, and older ones' after it.
  const std::string address = absl::StrCat(ports.name_space, "-server.0;tcp4://127.0.0.1:", ports.pmix);
  for (const char* version : {"2", "21", "3", "4", "41"}) variables[absl::StrCat("PMIX_SERVER_URI", version)] = address;
  if (!folder.empty()) {
    variables["PMIX_SERVER_TMPDIR"] = folder;
    variables["PMIX_SYSTEM_TMPDIR"] = folder;
  }
  return variables;
}

std::map<std::string, std::string> MpiDefaults(const std::string& folder, const std::string& shared_memory_folder,
                                               bool more_ranks_than_cores) {
  // Open MPI 4.1 asks PMIx only where it does not believe that its own mpirun, or nobody, or inside an allocation nobody but Slurm has
  // started it: without this every rank comes up as a world of one and says nothing.
  std::map<std::string, std::string> variables = {{"OMPI_MCA_schizo", "^orte,slurm"}};
  if (!folder.empty()) variables["OMPI_MCA_orte_tmpdir_base"] = folder;
  if (!shared_memory_folder.empty()) {
    // Named after host, world and local rank: nodes that share a machine would else share these files.
    for (const char* name : {"btl_vader", "btl_sm", "osc_sm"}) {
      variables[absl::StrCat("OMPI_MCA_", name, "_backing_directory")] = shared_memory_folder;
    }
  }
  // mpirun's own rule. Else each rank spins on a core that another one needs.
  if (more_ranks_than_cores) variables.emplace("OMPI_MCA_mpi_yield_when_idle", "1");
  return variables;
}

bool IsMpiPlaceVariable(absl::string_view name) {
  static const auto& kVariables = *new std::map<std::string, std::string>(MpiPlaceVariables({}, "", "/", 0, 1, 0, 1));
  return kVariables.contains(std::string(name));
}

}  // namespace muster
