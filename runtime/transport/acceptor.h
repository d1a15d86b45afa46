// The thread that takes connections on a mesh's listener, and turns away what is not a peer.
//
// It goes on for as long as the mesh lives, so that strangers are counted and named, and touches no established connection.
// Half-open connections are bounded by a fixed table. Those that say nothing do not reach it as long as the kernel keeps them
// (TCP_DEFER_ACCEPT, where there is such a thing). Where it is full, newcomers wait in the kernel's queue until one of its places is free
// or is held for kPlaceMin; then the oldest stranger gives way. So neither a flood of strangers nor a crowd of peers on a slow machine
// keeps peers out: each has that time to answer.
#ifndef MUSTER_RUNTIME_TRANSPORT_ACCEPTOR_H_
#define MUSTER_RUNTIME_TRANSPORT_ACCEPTOR_H_

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/base/fd.h"
#include "runtime/base/mutex.h"
#include "runtime/transport/handshake.h"
#include "runtime/transport/mesh.h"

namespace muster {

struct AcceptorOptions {
  HandshakeParty party;
  UniqueFd listener;  // bound
  absl::Duration silence_max;
  absl::Duration handshake_max = absl::Seconds(2);  // from accept to PROOF
  std::function<void(const MeshRefusal&)> refused;  // from the acceptor's thread; may be empty
};

// Not usable in a forked child, where the destructor only lets go.
class Acceptor {
 public:
  static constexpr int kHalfOpenMax = 64;
  static constexpr absl::Duration kPlaceMin = absl::Milliseconds(250);

  // A proven connection: opened, non-blocking, positioned at the first frame.
  struct Arrival {
    int rank = 0;
    int stream = 0;
    UniqueFd fd;
  };

  // Errors: from listen(2), descriptors or threads that run out.
  static absl::StatusOr<std::unique_ptr<Acceptor>> Create(AcceptorOptions options);
  ~Acceptor();

  // Readable while there are arrivals to be taken.
  int arrivals_fd() const { return arrived_event_.get(); }
  // Any thread.
  std::vector<Arrival> TakeArrivals();
  uint64_t refusals() const { return refusals_.load(std::memory_order_relaxed); }
  void AppendDescriptors(std::vector<int>* descriptors) const;

 private:
  struct HalfOpen {
    UniqueFd fd;
    int64_t since = 0, deadline = 0;  // MonotonicNanoseconds()
    SocketAddress from;
    AcceptHandshake handshake;
  };

  explicit Acceptor(AcceptorOptions options) : options_(std::move(options)) {}
  void Loop();
  bool AcceptSome();
  HalfOpen* PlaceToTake();
  int64_t NextPlaceAt();
  void Read(HalfOpen* half_open);
  void Admit(HalfOpen* half_open);
  void Refuse(HalfOpen* half_open, std::string what);
  void Overdue();

  AcceptorOptions options_;
  UniqueFd arrived_event_, stop_event_;
  std::atomic<uint64_t> refusals_{0};

  // The thread's own.
  std::array<HalfOpen, kHalfOpenMax> half_open_;
  std::set<std::pair<int, int>> taken_;  // (rank, stream) with a proven connection

  Mutex mutex_;
  std::vector<Arrival> arrivals_ ABSL_GUARDED_BY(mutex_);

  std::unique_ptr<std::thread> thread_;
  pid_t thread_process_ = 0;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRANSPORT_ACCEPTOR_H_
