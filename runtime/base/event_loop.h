// One thread that waits for descriptors, timers and posted work, and calls back.
#ifndef MUSTER_RUNTIME_BASE_EVENT_LOOP_H_
#define MUSTER_RUNTIME_BASE_EVENT_LOOP_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/base/fd.h"
#include "runtime/base/mutex.h"

namespace muster {

// All methods belong to the thread that calls Run (before Run: to whoever made the loop), except Post and Quit, which any thread
// may call. Callbacks may add and remove anything, themselves included. Source: epoll(7), level-triggered.
class EventLoop {
 public:
  using TimerId = std::pair<int64_t, uint64_t>;

  static absl::StatusOr<std::unique_ptr<EventLoop>> Create();
  ~EventLoop();

  // Calls `callback` with the ready events (EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR) while they last. Borrows `fd` until Remove.
  // One callback a descriptor.
  absl::Status Add(int fd, uint32_t events, std::function<void(uint32_t)> callback);
  absl::Status Modify(int fd, uint32_t events);
  void Remove(int fd);

  // Calls `callback` once, `delay` from now on the monotonic clock.
  TimerId After(absl::Duration delay, std::function<void()> callback);
  void Cancel(TimerId timer);

  // Calls `callback` on the loop's thread, in order of posting.
  void Post(std::function<void()> callback);

  // Runs until Quit. May be called again afterwards.
  void Run();
  void Quit();

 private:
  EventLoop(UniqueFd epoll, UniqueFd wakeup);
  void RunPosted();
  void RunTimers();
  int MillisecondsToNextTimer() const;

  UniqueFd epoll_;
  UniqueFd wakeup_;
  std::unordered_map<int, std::shared_ptr<std::function<void(uint32_t)>>> callbacks_;
  std::map<TimerId, std::function<void()>> timers_;
  uint64_t next_timer_ = 0;
  bool quit_ = false;

  Mutex mutex_;
  std::vector<std::function<void()>> posted_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_BASE_EVENT_LOOP_H_
