// A port of 127.0.0.1 where PMIx clients (Open MPI's programs) find a server, which is only started for the first that comes:
// muster-pmix, a process of its own, since libpmix is one server a process, loads plugins, and takes 15 ms that no other program
// should pay. It inherits the listening socket, with what waits there.
#ifndef MUSTER_LAUNCHER_MPI_PMIX_PORT_H_
#define MUSTER_LAUNCHER_MPI_PMIX_PORT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "launcher/exchange/node_exchange.h"
#include "launcher/mpi/frame_link.h"
#include "launcher/mpi/loopback.h"
#include "launcher/mpi/mpi_events.h"
#include "launcher/mpi/mpi_world.h"
#include "muster/v1/mpi.pb.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

// Belongs to the loop's thread, where the events come too.
class PmixPort {
 public:
  struct Options {
    std::string folder;   // for what the server and its clients put into files
    std::string program;  // muster-pmix; where there is no such file, whoever connects fails, and is told so
    // Starts `program` with these descriptors as 0 and 1. It ends by itself when the first is closed.
    std::function<void(UniqueFd control, UniqueFd listener)> start;
  };
  static absl::StatusOr<std::unique_ptr<PmixPort>> Open(EventLoop* loop, NodeExchange* exchange, Options options,
                                                        MpiEvents events);
  ~PmixPort();

  uint16_t port() const { return port_; }
  // From here on the server is started when somebody connects.
  absl::Status Begin(const MpiWorld& world);
  // Takes what the server has said so far.
  void ReadNow();
  // The server could not be started, or has ended.
  void ServerGone(const std::string& how);

 private:
  PmixPort(EventLoop* loop, NodeExchange* exchange, Options options, MpiEvents events)
      : loop_(loop), exchange_(exchange), options_(std::move(options)), events_(std::move(events)) {}
  absl::Status StartServer();
  void StartOrFail();  // says so where it cannot be started
  void OnReport(const std::string& bytes);
  void OnFence(v1::PmixFence fence);
  std::string ARankOf(uint32_t node) const;
  void OnAsked(const v1::PmixAsked& asked);
  void Send(v1::PmixCommand command);

  EventLoop* const loop_;
  NodeExchange* const exchange_;
  const Options options_;
  const MpiEvents events_;
  UniqueFd listener_;  // until the server has it
  uint16_t port_ = 0;
  bool listening_ = false;
  bool failed_ = false;
  MpiWorld world_;
  std::unique_ptr<FrameLink> link_;
  uint64_t next_question_ = 0;
  std::map<uint64_t, NodeExchange::Reply> questions_;  // of other nodes, put to the server
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_MPI_PMIX_PORT_H_
