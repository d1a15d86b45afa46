// Passes bytes between clients that come to one port of 127.0.0.1 and a server at another: libpmix takes connections only on a
// socket of its own, and clients were told of ours before there was a server.
#ifndef MUSTER_LAUNCHER_PMIX_RELAY_H_
#define MUSTER_LAUNCHER_PMIX_RELAY_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "launcher/mpi/loopback_door.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

// Belongs to the loop's thread. Holds at most kBytesMax for each direction of a connection, and kConnectionsMax connections.
class Relay {
 public:
  static constexpr size_t kBytesMax = 64 * 1024;
  static constexpr size_t kConnectionsMax = 4096;

  // Takes from `listener` what processes of our own user connect, and connects each to `port`. `log` is told of others'.
  static absl::StatusOr<std::unique_ptr<Relay>> Create(EventLoop* loop, UniqueFd listener, uint16_t port,
                                                       std::function<void(const std::string& line)> log);
  ~Relay();

  size_t connections() const { return connections_.size(); }

 private:
  struct End {
    UniqueFd socket;
    std::string held;     // to be written to it
    bool at_end = false;  // nothing more will be read from it
  };
  struct Connection {
    End ends[2];  // the client's, the server's
  };

  Relay(EventLoop* loop, UniqueFd listener, uint16_t port, std::function<void(const std::string& line)> log)
      : loop_(loop), listener_(std::move(listener)), port_(port), log_(std::move(log)) {}
  void Take(UniqueFd client);
  absl::Status Join(UniqueFd client);
  void OnReady(uint64_t id, int end, uint32_t events);
  bool Move(Connection& connection, int from);
  static bool Write(End& end);
  void Watch(Connection& connection);
  void Close(uint64_t id);

  EventLoop* const loop_;
  UniqueFd listener_;
  const uint16_t port_;
  const std::function<void(const std::string& line)> log_;
  uint64_t next_ = 0;
  std::map<uint64_t, Connection> connections_;
  std::unique_ptr<LoopbackDoor> door_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PMIX_RELAY_H_
