#include "launcher/mpi/mpi_servers.h"

#include <errno.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {

absl::StatusOr<std::unique_ptr<MpiServers>> MpiServers::Open(EventLoop* loop, NodeExchange* exchange, MpiServersOptions options,
                                                             Callbacks callbacks) {
  std::unique_ptr<MpiServers> servers(new MpiServers(exchange, std::move(options), std::move(callbacks)));
  // Before a server is needed: a program's own mpirun is told of it too.
  const std::string& folder = servers->options_.shared_memory_folder;
  if (!folder.empty() && (::mkdir(folder.c_str(), 0700) == 0 || errno == EEXIST)) servers->shared_memory_folder_ = folder;
  MUSTER_ASSIGN_OR_RETURN(servers->pmi_, PmiPort::Open(loop, exchange, servers->Events(MpiProtocol::kPmi)));
  PmixPort::Options pmix;
  pmix.folder = servers->options_.folder;
  pmix.program = servers->options_.pmix_program;
  pmix.start = servers->callbacks_.start_pmix;
  MUSTER_ASSIGN_OR_RETURN(servers->pmix_, PmixPort::Open(loop, exchange, std::move(pmix), servers->Events(MpiProtocol::kPmix)));
  return servers;
}

MpiEvents MpiServers::Events(MpiProtocol protocol) {
  MpiEvents events;
  events.joined = [this, protocol](uint32_t rank) { Fail(roll_.Joined(protocol, rank)); };
  events.left = [this](uint32_t rank) { roll_.Left(rank); };
  events.aborted = [this](uint32_t rank, int code) { Fail(roll_.Aborted(rank, code)); };
  events.met_by_pmi = [this] { roll_.MetByPmi(); };
  events.awaited = [this, protocol](const std::string& who) { Fail(roll_.Awaited(protocol, who)); };
  events.failed = [this](const std::string& why) {
    if (first_rank_) Fail(roll_.Failed(*first_rank_, why));
  };
  events.log = callbacks_.log;
  return events;
}

void MpiServers::Fail(const MpiRoll::Complaints& complaints) {
  for (const MpiRoll::Complaint& one : complaints) callbacks_.failed(one.rank, one.exit_code, one.why);
}

MpiPorts MpiServers::ports() const { return {MpiNameSpace(options_.job_id, options_.generation), pmix_->port(), pmi_->port()}; }

absl::Status MpiServers::Begin(const MpiWorld& world) {
  for (const uint32_t rank : world.LocalRanks()) first_rank_ = std::min(rank, first_rank_.value_or(rank));
  exchange_->OnAwaited([this, alive = std::weak_ptr<bool>(alive_)](const std::string& gather, uint32_t rank) {
    if (!alive.expired()) OnAwaited(gather, rank);
  });
  MUSTER_RETURN_IF_ERROR(pmi_->Begin(world));
  return pmix_->Begin(world);
}

void MpiServers::RankEnded(uint32_t rank, bool well) {
  // Its last words may still be on their way.
  pmi_->ReadNow();
  pmix_->ReadNow();
  if (well) Fail(roll_.Ended(rank));
}

void MpiServers::OnAwaited(const std::string& gather, uint32_t rank) {
  const MpiProtocol protocol = absl::StartsWith(gather, kPmiGathers) ? MpiProtocol::kPmi : MpiProtocol::kPmix;
  Fail(roll_.Awaited(protocol, absl::StrCat("rank ", rank)));
}

}  // namespace muster
