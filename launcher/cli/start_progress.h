// "starting: 3 of 8 workers", shown only where starting takes long.
#ifndef MUSTER_LAUNCHER_CLI_START_PROGRESS_H_
#define MUSTER_LAUNCHER_CLI_START_PROGRESS_H_

#include <cstdint>
#include <optional>

#include "runtime/base/event_loop.h"

namespace muster {

// On a terminal one line that changes, elsewhere said once. Belongs to the loop's thread.
class StartProgress {
 public:
  StartProgress(EventLoop* loop, int64_t workers);
  ~StartProgress() { End(); }

  void Started(int64_t started);
  // Nothing more is shown: all have started, the job is being stopped, or it is over.
  void End();

 private:
  void Show();

  EventLoop* const loop_;
  const int64_t workers_;
  int64_t started_ = 0;
  bool shown_ = false;
  std::optional<EventLoop::TimerId> timer_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_START_PROGRESS_H_
