// Starts of agents that are asked for in one turn of the loop, to be begun together in the next.
#ifndef MUSTER_LAUNCHER_STARTER_START_BATCH_H_
#define MUSTER_LAUNCHER_STARTER_START_BATCH_H_

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "muster/v1/start.pb.h"
#include "runtime/base/event_loop.h"

namespace muster {

// Belongs to the loop's thread.
class StartBatch {
 public:
  using Begin = std::function<void(std::vector<v1::AgentStart> starts)>;
  StartBatch(EventLoop* loop, Begin begin) : loop_(loop), begin_(std::move(begin)) {}

  void Add(v1::AgentStart start) {
    starts_.push_back(std::move(start));
    if (starts_.size() > 1) return;
    loop_->Post([this, alive = std::weak_ptr<bool>(alive_)] {
      if (!alive.expired() && !starts_.empty()) begin_(std::exchange(starts_, {}));
    });
  }
  // Those that have not begun never do.
  void Clear() { starts_.clear(); }
  size_t size() const { return starts_.size(); }

 private:
  EventLoop* const loop_;
  const Begin begin_;
  std::vector<v1::AgentStart> starts_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for what is posted
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_STARTER_START_BATCH_H_
