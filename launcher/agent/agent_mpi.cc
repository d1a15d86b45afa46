// What the agent's shell does for MPI programs: ports before the first worker, muster-pmix under the guard when it is asked for, and
// what speaks against a rank.
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/agent/agent.h"
#include "launcher/agent/environment.h"
#include "launcher/guard/shared_memory.h"
#include "launcher/mpi/mpi_world.h"

namespace muster {

// Before the first worker: its environment names the ports. That they cannot be had is no matter to programs without MPI.
void Agent::OpenMpi(uint64_t generation) {
  mpi_.reset();
  MpiServersOptions options;
  options.job_id = options_.job_id;
  options.generation = generation;
  options.folder = options_.session_folder;
  if (!options_.session_folder.empty()) options.shared_memory_folder = guard::SharedMemoryFolder(options_.session_folder);
  options.pmix_program = absl::StrCat(options_.guard_path.substr(0, options_.guard_path.rfind('/') + 1), "muster-pmix");
  MpiServers::Callbacks callbacks;
  callbacks.start_pmix = [this](UniqueFd control, UniqueFd listener) { StartPmix(std::move(control), std::move(listener)); };
  callbacks.failed = [this](uint32_t rank, int exit_code, const std::string& why) { OnMpiFailed(rank, exit_code, why); };
  callbacks.log = callbacks_.log;
  auto servers = MpiServers::Open(loop_, &exchange_, std::move(options), std::move(callbacks));
  if (servers.ok()) {
    mpi_ = *std::move(servers);
  } else {
    callbacks_.log(LogLevel::kInfo, absl::StrCat("MPI programs cannot find each other here: ", servers.status().message()));
  }
}

void Agent::StartPmix(UniqueFd control, UniqueFd listener) {
  SpawnRequest request;
  request.slot = kPmixSlot;
  request.program = absl::StrCat(options_.guard_path.substr(0, options_.guard_path.rfind('/') + 1), "muster-pmix");
  request.argv = {"muster-pmix"};
  request.env = PmixServerEnvironment(options_.inherited_environment, options_.session_folder);
  request.stdin_fd = std::move(control);
  request.stdout_fd = std::move(listener);
  request.stderr_fd.Reset(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0));
  guard_->Spawn(std::move(request));
}

void Agent::BeginMpi(const agent::BeginGeneration& action) {
  const v1::Prepare& prepare = *action.prepare;
  if (prepare.places().empty()) return;
  std::vector<uint32_t> applications;
  for (const WorkerProgram& one : options_.applications) applications.push_back(one.workers);
  const auto world =
      MakeMpiWorld(options_.job_id, action.generation, prepare, action.members.get(), options_.host, std::move(applications));
  absl::Status begun = world.status();
  if (world.ok()) {
    exchange_.Begin(action.generation, prepare.places(0).node(), world->nodes);
    if (mpi_ != nullptr) begun = mpi_->Begin(*world);
    exchange_.Listen();
  }
  if (begun.ok()) return;
  mpi_.reset();
  callbacks_.log(LogLevel::kError, absl::StrCat("MPI programs cannot find each other here: ", begun.message()));
}

void Agent::EndMpi() {
  mpi_.reset();
  exchange_.End();
}

void Agent::OnMpiFailed(uint32_t rank, int exit_code, const std::string& why) {
  const auto worker = spawned_.find(rank);
  if (worker == spawned_.end()) return;
  mpi_blamed_.insert(rank);
  agent::WorkerBlamed blamed{.slot = worker->second.slot,
                             .blamed_rank = rank,
                             .reason = static_cast<uint32_t>(v1::AbortReason::kMpi),
                             .op_seq = 0,
                             .message = why,
                             .spawn = worker->second.spawn,
                             .exit_code = exit_code};
  return worker_is_ending_ ? Step(blamed) : Post(std::move(blamed));
}

void Agent::OnPmixGone(const std::string& how) {
  if (mpi_ != nullptr) mpi_->PmixGone(how);
}

void Agent::TellMpiOfEnd(uint32_t rank, int wait_status) {
  if (mpi_ == nullptr) return;
  const agent::State state = table_.state();
  const bool asked_to = state == agent::State::kReconfig || state == agent::State::kStopping;
  worker_is_ending_ = true;
  mpi_->RankEnded(rank, wait_status == 0 && !asked_to);
  worker_is_ending_ = false;
}

}  // namespace muster
