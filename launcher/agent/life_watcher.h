// Sees workers die, by their life pages, before the kernel has freed their memory (proto/muster/v1/life_page.h).
#ifndef MUSTER_LAUNCHER_AGENT_LIFE_WATCHER_H_
#define MUSTER_LAUNCHER_AGENT_LIFE_WATCHER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/muster/v1/life_page.h"
#include "runtime/base/fd.h"

namespace muster {

// A worker's life page, mapped. The worker may write anything into it at any time.
class MappedLifePage {
 public:
  // Errors: InvalidArgument (no sealed memfd, or not the life page of `slot`).
  static absl::StatusOr<std::shared_ptr<MappedLifePage>> Map(int fd, uint32_t slot);
  ~MappedLifePage();
  MappedLifePage(const MappedLifePage&) = delete;
  MappedLifePage& operator=(const MappedLifePage&) = delete;

  bool left() const { return page_->state.load() == v1::LifeState::kLeft; }
  uint32_t* futex_word() const { return reinterpret_cast<uint32_t*>(&page_->mutex); }

 private:
  explicit MappedLifePage(v1::LifePage* page) : page_(page) {}
  v1::LifePage* page_;
};

enum class LifeEnd { kLeft, kDied };

enum class FutexWaiting {
  kVector,  // futex_waitv(2), one thread for 127 pages
  kSingle,  // a thread a page: for kernels before 5.16 and seccomp filters that do not know the call
};
FutexWaiting FutexWaitingHere();

// Watch and Forget belong to one thread. A life is named by a number of the caller's, which it uses once: the next process of a
// slot is another life.
class LifeWatcher {
 public:
  // `ended` is called on a watching thread, once a page.
  LifeWatcher(FutexWaiting waiting, std::function<void(uint64_t life, LifeEnd end)> ended);
  ~LifeWatcher();
  LifeWatcher(const LifeWatcher&) = delete;
  LifeWatcher& operator=(const LifeWatcher&) = delete;

  // The page's owner has joined: from now on a mutex that is not held means an end.
  // Errors: ResourceExhausted (no thread to watch it).
  absl::Status Watch(uint64_t life, std::shared_ptr<MappedLifePage> page);
  // Its page is let go of within 100 ms. A call of `ended` for `life` that has begun may still finish after this returns.
  void Forget(uint64_t life);

 private:
  class Group;
  const FutexWaiting waiting_;
  const std::function<void(uint64_t, LifeEnd)> ended_;
  std::vector<std::unique_ptr<Group>> groups_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_LIFE_WATCHER_H_
