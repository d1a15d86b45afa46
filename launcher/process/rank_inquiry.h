// Asks all agents where their ranks are, and waits for the answers, but not for long.
#ifndef MUSTER_LAUNCHER_PROCESS_RANK_INQUIRY_H_
#define MUSTER_LAUNCHER_PROCESS_RANK_INQUIRY_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <vector>

#include "absl/time/time.h"
#include "muster/v1/agent.pb.h"
#include "runtime/base/event_loop.h"

namespace muster {

// Belongs to the loop's thread.
class RankInquiry {
 public:
  explicit RankInquiry(EventLoop* loop) : loop_(loop) {}
  ~RankInquiry();

  // `ask` is called for each of `nodes`, `done` once, from the loop: when all of them have answered or `patience` is over. One at a
  // time: a second one is ignored while the first waits.
  void Start(const std::set<uint32_t>& nodes, absl::Duration patience, const std::function<void(uint32_t node)>& ask,
             std::function<void(std::vector<v1::RankState> states)> done);
  void Answered(uint32_t node, const v1::RankStates& states);

 private:
  void Finish();

  EventLoop* const loop_;
  std::set<uint32_t> waiting_for_;
  std::vector<v1::RankState> states_;
  std::function<void(std::vector<v1::RankState> states)> done_;  // null: nobody waits
  std::optional<EventLoop::TimerId> timer_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_RANK_INQUIRY_H_
