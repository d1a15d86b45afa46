// PmiTable behind a port of 127.0.0.1, where MPICH's programs find it by PMI_PORT and PMI_ID.
//
// A port rather than a descriptor in every worker (PMI_FD): programs that are not MPI's then cost nothing and inherit nothing, and
// a program that closes its descriptors before it starts the real one still works. Who connects must belong to our own user.
#ifndef MUSTER_LAUNCHER_MPI_PMI_PORT_H_
#define MUSTER_LAUNCHER_MPI_PMI_PORT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "launcher/exchange/node_exchange.h"
#include "launcher/mpi/loopback.h"
#include "launcher/mpi/loopback_door.h"
#include "launcher/mpi/mpi_events.h"
#include "launcher/mpi/mpi_world.h"
#include "launcher/mpi/pmi_table.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

// Belongs to the loop's thread, where the events come too, never from inside a call.
class PmiPort {
 public:
  static absl::StatusOr<std::unique_ptr<PmiPort>> Open(EventLoop* loop, NodeExchange* exchange, MpiEvents events);
  ~PmiPort();

  uint16_t port() const { return listener_.port; }
  // From here on connections are taken; before they wait.
  absl::Status Begin(const MpiWorld& world);
  // Takes what ranks have sent so far.
  void ReadNow();

 private:
  struct Connection {
    UniqueFd socket;
    std::string received;  // of a line that has not ended
    std::optional<uint32_t> rank;
  };

  PmiPort(EventLoop* loop, NodeExchange* exchange, MpiEvents events, LoopbackListener listener);
  void Take(UniqueFd client);
  void Read(int descriptor);
  void OnLine(int descriptor, absl::string_view line);
  void Greet(int descriptor, absl::string_view line);
  void Do(PmiTable::Actions actions);
  void Close(int descriptor);
  void Drop(int descriptor, const std::string& why);
  void Send(int descriptor, const std::string& line);
  std::optional<int> ConnectionOf(uint32_t rank) const;

  EventLoop* const loop_;
  NodeExchange* const exchange_;
  const MpiEvents events_;
  LoopbackListener listener_;
  uint32_t world_size_ = 0;
  std::vector<uint32_t> ranks_;
  std::optional<PmiTable> table_;
  std::map<int, Connection> connections_;  // by descriptor
  std::unique_ptr<LoopbackDoor> door_;     // from Begin on
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_MPI_PMI_PORT_H_
