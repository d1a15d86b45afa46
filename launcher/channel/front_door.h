// The listening socket before gRPC: every connection is looked at, and who does not begin with TLS is turned away by name.
#ifndef MUSTER_LAUNCHER_CHANNEL_FRONT_DOOR_H_
#define MUSTER_LAUNCHER_CHANNEL_FRONT_DOOR_H_

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

// What the first bytes of a connection are.
enum class Opening {
  kTls,        // a ClientHello (RFC 8446, sections 4.1.2 and 5.1)
  kUndecided,  // may become one
  kHttp,       // a request or HTTP/2's preface, without TLS
  kSearch,     // an agent that looks for the way to us (coordinator_search.h)
  kJoin,       // an agent that asks for a ticket (join_key.h)
  kPlainText,  // anything else
};
Opening OpeningOf(absl::string_view bytes);
inline constexpr size_t kOpeningBytes = 6;  // enough to decide

// Belongs to the loop's thread. At most kSilentMax connections wait for their first bytes: a newcomer beyond that ends the oldest.
class FrontDoor {
 public:
  static constexpr size_t kSilentMax = 256;

  struct Events {
    // A connection whose unread bytes begin a ClientHello; non-blocking. `from` is its numeric address and port.
    std::function<void(UniqueFd connection, const std::string& from)> admit;
    std::function<void(const std::string& what, const std::string& from)> refuse;
    std::function<void(const std::string& line)> warn;  // connections could not be accepted for a while, and why
    std::string search_answer = "";                     // for kSearch, after which the connection is closed
    // What a request for a ticket is answered, after which the connection is closed. None: such requests are refused.
    std::function<std::string(absl::string_view request, const std::string& from)> join = nullptr;
  };

  // `address` is numeric; port 0: any that is free. Errors: InvalidArgument (no such address), those of bind and listen.
  static absl::StatusOr<std::unique_ptr<FrontDoor>> Listen(EventLoop* loop, const std::string& address, uint16_t port,
                                                           absl::Duration first_bytes_within, Events events);
  ~FrontDoor();

  uint16_t port() const { return port_; }
  int listener() const { return listener_.get(); }

  // While paused nobody is accepted; connections queue in the kernel.
  void Pause(bool paused);

 private:
  struct Silent {
    UniqueFd connection;
    std::string from;
    EventLoop::TimerId timer;
  };

  FrontDoor(EventLoop* loop, UniqueFd listener, uint16_t port, absl::Duration first_bytes_within, Events events);
  void Accept();
  void Wait(UniqueFd connection, std::string from);
  // Decides by what has come so far; null: it may still speak, else it is refused in these words when it has said nothing.
  void Look(int connection, const char* if_silent);
  Silent Take(int connection);
  void Rest();

  EventLoop* const loop_;
  UniqueFd listener_;
  const uint16_t port_;
  const absl::Duration first_bytes_within_;
  const Events events_;
  std::unordered_map<int, Silent> silent_;
  std::list<int> oldest_first_;
  bool paused_ = false;
  bool resting_ = false;  // out of descriptors: tries again soon
  bool warned_ = false;
  EventLoop::TimerId rest_timer_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CHANNEL_FRONT_DOOR_H_
