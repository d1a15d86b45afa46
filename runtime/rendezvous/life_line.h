// A process's life page and the thread that holds its mutex (proto/muster/v1/life_page.h).
#ifndef MUSTER_RUNTIME_RENDEZVOUS_LIFE_LINE_H_
#define MUSTER_RUNTIME_RENDEZVOUS_LIFE_LINE_H_

#include <semaphore.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <thread>

#include "absl/status/statusor.h"
#include "proto/muster/v1/life_page.h"
#include "runtime/base/fd.h"

namespace muster {

// From Create to Leave the agent takes the end of this process, an exec included, for a death. A child made by fork() does not
// have the page and must not touch this object.
class LifeLine {
 public:
  // Makes and seals the page; returns once the thread holds the mutex.
  static absl::StatusOr<std::unique_ptr<LifeLine>> Create(uint32_t slot);
  ~LifeLine();  // leaves
  LifeLine(const LifeLine&) = delete;
  LifeLine& operator=(const LifeLine&) = delete;

  // For WorkerHello.
  int page_fd() const { return page_fd_.get(); }
  // The agent has its own copy: nothing here needs the descriptor any more.
  void ClosePageFd() { page_fd_.Reset(); }

  // A clean end, visible to the agent when this returns. May be called again, and from an atexit handler.
  void Leave();

 private:
  LifeLine(UniqueFd page_fd, v1::LifePage* page);
  void Hold();

  UniqueFd page_fd_;
  v1::LifePage* page_;
  sem_t held_;
  sem_t released_;
  std::thread holder_;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_RENDEZVOUS_LIFE_LINE_H_
