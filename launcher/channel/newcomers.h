// Connections and streams whose other end has proved nothing yet: bounded in number and in time.
#ifndef MUSTER_LAUNCHER_CHANNEL_NEWCOMERS_H_
#define MUSTER_LAUNCHER_CHANNEL_NEWCOMERS_H_

#include <cstddef>
#include <functional>
#include <string>
#include <unordered_map>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

// gRPC ends no connection of its own that goes on calling, so a hold is kept on each (a second descriptor) until its other end has
// proved itself. Connections are named by their other end's numeric address and port. Belongs to the loop's thread.
class Newcomers {
 public:
  // At the bound nobody is accepted until one of them is decided, which each is within `within`.
  static constexpr size_t kMax = 128;

  struct Callbacks {
    std::function<void(bool pause)> pause;  // accept nobody, or accept again
    std::function<void(const std::string& what, const std::string& from)> refused;
  };
  // `within`: from a connection to its first call; twice that to its proof, for its streams have deadlines of their own and it should
  // read why they were refused.
  Newcomers(EventLoop* loop, absl::Duration within, Callbacks callbacks)
      : loop_(loop), within_(within), callbacks_(std::move(callbacks)) {}
  ~Newcomers();

  // A connection that gRPC is about to be handed. Errors: those of fcntl(2) and epoll_ctl(2).
  absl::Status Admit(int connection, const std::string& from);
  // It has made a call.
  void NoteCall(const std::string& from);
  // Its other end is one of ours: it is let go of.
  void NoteProof(const std::string& from);
  // A stream that has proved nothing, and its end or its proof.
  void StreamBegan();
  void StreamDecided();

 private:
  struct Newcomer {
    UniqueFd connection;
    EventLoop::TimerId deadline;
    bool called = false;
    bool closed = false;  // by its other end
  };
  void OnClosed(const std::string& from);
  // The connection is over, by its other end or because it has proved nothing in its time.
  void Leave(std::string from);
  void Forget(const std::string& from);
  void PauseWhenCrowded();

  EventLoop* const loop_;
  const absl::Duration within_;
  const Callbacks callbacks_;
  std::unordered_map<std::string, Newcomer> newcomers_;  // by their other end
  size_t streams_ = 0;
  bool crowded_ = false;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CHANNEL_NEWCOMERS_H_
