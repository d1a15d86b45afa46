// What one node does for MPI programs in one generation: a PMIx server for Open MPI's, a PMI-1 server for MPICH's. Nothing of it is
// started before a program asks.
#ifndef MUSTER_LAUNCHER_MPI_MPI_SERVERS_H_
#define MUSTER_LAUNCHER_MPI_MPI_SERVERS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "launcher/exchange/node_exchange.h"
#include "launcher/mpi/mpi_environment.h"
#include "launcher/mpi/mpi_roll.h"
#include "launcher/mpi/mpi_world.h"
#include "launcher/mpi/pmi_port.h"
#include "launcher/mpi/pmix_port.h"
#include "runtime/base/event_loop.h"

namespace muster {

struct MpiServersOptions {
  std::string job_id;  // 16 bytes
  uint64_t generation = 0;
  std::string folder;                // of the job, for files
  std::string shared_memory_folder;  // made by Open, where that can be; whoever runs the job removes it
  std::string pmix_program;          // the executable muster-pmix
};

// Belongs to the loop's thread. Made before the first worker of a generation is started; its end is the generation's.
class MpiServers {
 public:
  struct Callbacks {
    std::function<void(UniqueFd control, UniqueFd listener)> start_pmix;  // PmixPort::Options::start
    // The job cannot go on because of `rank`, which ends with `exit_code` (0: not known). `why` follows its name.
    std::function<void(uint32_t rank, int exit_code, const std::string& why)> failed;
    std::function<void(LogLevel level, const std::string& line)> log;
  };
  // Errors: those of the sockets.
  static absl::StatusOr<std::unique_ptr<MpiServers>> Open(EventLoop* loop, NodeExchange* exchange, MpiServersOptions options,
                                                          Callbacks callbacks);

  MpiPorts ports() const;
  const std::string& shared_memory_folder() const { return shared_memory_folder_; }  // empty: none could be made
  // All members are known and have begun.
  absl::Status Begin(const MpiWorld& world);
  // muster-pmix could not be started, or has ended.
  void PmixGone(const std::string& how) { pmix_->ServerGone(how); }
  // A rank of this node has ended; `well`: with status 0. Says first what MPI has to say against that, by `failed`.
  void RankEnded(uint32_t rank, bool well);

 private:
  MpiServers(NodeExchange* exchange, MpiServersOptions options, Callbacks callbacks)
      : exchange_(exchange), options_(std::move(options)), callbacks_(std::move(callbacks)) {}
  MpiEvents Events(MpiProtocol protocol);
  void Fail(const MpiRoll::Complaints& complaints);
  void OnAwaited(const std::string& gather, uint32_t rank);

  NodeExchange* const exchange_;
  const MpiServersOptions options_;
  const Callbacks callbacks_;
  std::string shared_memory_folder_;
  std::unique_ptr<PmiPort> pmi_;
  std::unique_ptr<PmixPort> pmix_;
  std::optional<uint32_t> first_rank_;  // of this node; not before Begin
  MpiRoll roll_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_MPI_MPI_SERVERS_H_
