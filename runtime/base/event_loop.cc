#include "runtime/base/event_loop.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <limits>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {

absl::StatusOr<std::unique_ptr<EventLoop>> EventLoop::Create() {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return ErrnoToStatus(errno, "epoll_create1");
  UniqueFd wakeup(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wakeup) return ErrnoToStatus(errno, "eventfd");
  const int wakeup_fd = wakeup.get();
  std::unique_ptr<EventLoop> loop(new EventLoop(std::move(epoll), std::move(wakeup)));
  MUSTER_RETURN_IF_ERROR(loop->Add(wakeup_fd, EPOLLIN, [wakeup_fd](uint32_t) {
    uint64_t count;
    [[maybe_unused]] const ssize_t bytes = ::read(wakeup_fd, &count, sizeof count);
  }));
  return loop;
}

EventLoop::EventLoop(UniqueFd epoll, UniqueFd wakeup) : epoll_(std::move(epoll)), wakeup_(std::move(wakeup)) {}
EventLoop::~EventLoop() = default;

absl::Status EventLoop::Add(int fd, uint32_t events, std::function<void(uint32_t)> callback) {
  epoll_event event = {};
  event.events = events;
  event.data.fd = fd;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return ErrnoToStatus(errno, "epoll_ctl add");
  callbacks_[fd] = std::make_shared<std::function<void(uint32_t)>>(std::move(callback));
  return absl::OkStatus();
}

absl::Status EventLoop::Modify(int fd, uint32_t events) {
  epoll_event event = {};
  event.events = events;
  event.data.fd = fd;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0) return ErrnoToStatus(errno, "epoll_ctl modify");
  return absl::OkStatus();
}

void EventLoop::Remove(int fd) {
  if (callbacks_.erase(fd) > 0) epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

EventLoop::TimerId EventLoop::After(absl::Duration delay, std::function<void()> callback) {
  const TimerId id{MonotonicNanoseconds() + absl::ToInt64Nanoseconds(std::max(delay, absl::ZeroDuration())), next_timer_++};
  timers_.emplace(id, std::move(callback));
  return id;
}

void EventLoop::Cancel(TimerId timer) { timers_.erase(timer); }

void EventLoop::Post(std::function<void()> callback) {
  {
    MutexLock lock(mutex_);
    posted_.push_back(std::move(callback));
  }
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t bytes = ::write(wakeup_.get(), &one, sizeof one);
}

void EventLoop::Quit() {
  Post([this] { quit_ = true; });
}

void EventLoop::RunPosted() {
  std::vector<std::function<void()>> posted;
  {
    MutexLock lock(mutex_);
    posted.swap(posted_);
  }
  for (auto& callback : posted) callback();
}

void EventLoop::RunTimers() {
  const int64_t now = MonotonicNanoseconds();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    auto callback = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    callback();
  }
}

int EventLoop::MillisecondsToNextTimer() const {
  if (timers_.empty()) return -1;
  const int64_t left = timers_.begin()->first.first - MonotonicNanoseconds();
  if (left <= 0) return 0;
  return static_cast<int>(std::min<int64_t>((left + 999'999) / 1'000'000, std::numeric_limits<int>::max()));
}

void EventLoop::Run() {
  quit_ = false;
  epoll_event events[64];
  while (!quit_) {
    const int ready = epoll_wait(epoll_.get(), events, 64, MillisecondsToNextTimer());
    MUSTER_CHECK(ready >= 0 || errno == EINTR, "epoll_wait");
    RunTimers();
    for (int i = 0; i < ready; ++i) {
      // Looked up each time: an earlier callback of this round may have removed it.
      const auto found = callbacks_.find(events[i].data.fd);
      if (found == callbacks_.end()) continue;
      const auto callback = found->second;
      (*callback)(events[i].events);
    }
    RunPosted();
  }
}

}  // namespace muster
