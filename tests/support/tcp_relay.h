// A wire between two programs that a test can cut, freeze and unplug.
#ifndef MUSTER_TESTS_SUPPORT_TCP_RELAY_H_
#define MUSTER_TESTS_SUPPORT_TCP_RELAY_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster::test {

// Forwards every connection to 127.0.0.1:`to`. Belongs to the loop's thread.
class TcpRelay {
 public:
  TcpRelay(EventLoop* loop, uint16_t to);
  ~TcpRelay();

  std::string address() const;  // "127.0.0.1:PORT"

  // Each new connection is cut after so many bytes in both directions together. Null: never.
  std::function<int64_t()> bytes_until_cut;

  void CutAll();     // as if a cable had been pulled and both ends had noticed
  void FreezeAll();  // the connections there are stay open and forward nothing; new ones do
  void Unplug(bool unplugged) { unplugged_ = unplugged; }  // newcomers are cut at once

  int64_t connections() const { return connections_; }
  int64_t cuts() const { return cuts_; }

 private:
  struct Side {
    UniqueFd fd;
    std::string pending;  // to be written here
  };
  struct Pair {
    Side sides[2];
    int64_t bytes_left = -1;  // -1: no bound
  };
  void Accept();
  void OnEvent(uint64_t id, int side, uint32_t events);
  bool Pump(Pair* pair, int from);
  void Watch(Pair* pair);
  void Cut(uint64_t id);

  EventLoop* const loop_;
  const uint16_t to_;
  UniqueFd listener_;
  uint16_t port_ = 0;
  bool unplugged_ = false;
  uint64_t next_id_ = 0;
  std::map<uint64_t, Pair> pairs_;
  int64_t connections_ = 0;
  int64_t cuts_ = 0;
};

}  // namespace muster::test

#endif  // MUSTER_TESTS_SUPPORT_TCP_RELAY_H_
