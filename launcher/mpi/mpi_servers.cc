#include "launcher/mpi/mpi_servers.h"

#include <errno.h>
#include <sys/stat.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {

absl::StatusOr<std::unique_ptr<MpiServers>> MpiServers::Open(EventLoop* loop, NodeExchange* exchange, MpiServersOptions options,
                                                             Callbacks callbacks) {
  std::unique_ptr<MpiServers> servers(new MpiServers(std::move(options), std::move(callbacks)));
  // Before a server is needed: a program's own mpirun is told of it too.
  const std::string& folder = servers->options_.shared_memory_folder;
  if (!folder.empty() && (::mkdir(folder.c_str(), 0700) == 0 || errno == EEXIST)) servers->shared_memory_folder_ = folder;
  MUSTER_ASSIGN_OR_RETURN(servers->pmi_, PmiPort::Open(loop, exchange, servers->Events()));
  PmixPort::Options pmix;
  pmix.folder = servers->options_.folder;
  pmix.program = servers->options_.pmix_program;
  pmix.start = servers->callbacks_.start_pmix;
  MUSTER_ASSIGN_OR_RETURN(servers->pmix_, PmixPort::Open(loop, exchange, std::move(pmix), servers->Events()));
  return servers;
}

MpiEvents MpiServers::Events() {
  MpiEvents events;
  events.joined = [this](uint32_t rank) {
    joined_.insert(rank);
    left_.erase(rank);
    BlameNeverJoined();
  };
  events.left = [this](uint32_t rank) { left_.insert(rank); };
  events.aborted = [this](uint32_t rank, int code) {
    if (!blamed_.insert(rank).second) return;
    callbacks_.failed(rank, code & 0xff, absl::StrCat("called MPI_Abort with code ", code));
  };
  events.failed = [this](const std::string& why) {
    if (first_rank_ && blamed_.insert(*first_rank_).second) callbacks_.failed(*first_rank_, 0, why);
  };
  events.log = callbacks_.log;
  return events;
}

MpiPorts MpiServers::ports() const { return {MpiNameSpace(options_.job_id, options_.generation), pmix_->port(), pmi_->port()}; }

absl::Status MpiServers::Begin(const MpiWorld& world) {
  for (const uint32_t rank : world.LocalRanks()) first_rank_ = std::min(rank, first_rank_.value_or(rank));
  MUSTER_RETURN_IF_ERROR(pmi_->Begin(world));
  return pmix_->Begin(world);
}

void MpiServers::RankEnded(uint32_t rank, bool well) {
  // Its last words may still be on their way.
  pmi_->ReadNow();
  pmix_->ReadNow();
  if (!well) return;
  if (!joined_.contains(rank)) {
    ended_.insert(rank);
    BlameNeverJoined();
  } else if (!left_.contains(rank) && blamed_.insert(rank).second) {
    callbacks_.failed(rank, 0, "ended with status 0 and never called MPI_Finalize");
  }
}

// Who waits in MPI_Init for a rank that will never come waits for ever.
void MpiServers::BlameNeverJoined() {
  if (joined_.empty()) return;
  for (const uint32_t rank : ended_) {
    if (!blamed_.insert(rank).second) continue;
    callbacks_.failed(rank, 0,
                      absl::StrCat("ended with status 0 and never called MPI_Init, as rank ", *joined_.begin(), " did"));
  }
}

}  // namespace muster
