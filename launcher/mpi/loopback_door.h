// Takes what connects to a listening socket on 127.0.0.1, for as long as somebody wants it.
#ifndef MUSTER_LAUNCHER_MPI_LOOPBACK_DOOR_H_
#define MUSTER_LAUNCHER_MPI_LOOPBACK_DOOR_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

// Belongs to the loop's thread, where the callbacks come too; they must not destroy it.
class LoopbackDoor {
 public:
  static constexpr uint64_t kRefusalsLogged = 20;  // then they are only counted, and the count is told at the end

  struct Callbacks {
    std::function<void(UniqueFd client)> taken;  // a process of our own user's; loopback.h, AcceptOwn
    std::function<void(const std::string& line)> log;
  };
  // Borrows `listener`, which does not block. `place` is how sentences call it: "the PMIx server". Where the process, or the machine,
  // has no descriptor left, connections wait in the kernel and are looked for again ten times a second.
  static absl::StatusOr<std::unique_ptr<LoopbackDoor>> Open(EventLoop* loop, int listener, std::string place,
                                                            Callbacks callbacks);
  ~LoopbackDoor();

 private:
  LoopbackDoor(EventLoop* loop, int listener, std::string place, Callbacks callbacks)
      : loop_(loop), listener_(listener), place_(std::move(place)), callbacks_(std::move(callbacks)) {}
  absl::Status Watch();
  void Accept();
  void Pause();
  void Refuse(absl::string_view why);

  EventLoop* const loop_;
  const int listener_;
  const std::string place_;
  const Callbacks callbacks_;
  std::optional<EventLoop::TimerId> pause_;
  bool out_of_descriptors_ = false;
  uint64_t refusals_ = 0;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_MPI_LOOPBACK_DOOR_H_
