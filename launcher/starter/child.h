// A process that this one starts and waits for, in a process group of its own so that a terminal's Ctrl-C does not reach it.
#ifndef MUSTER_LAUNCHER_STARTER_CHILD_H_
#define MUSTER_LAUNCHER_STARTER_CHILD_H_

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

struct ChildOptions {
  std::string program;  // a path, or a bare name for PATH
  std::vector<std::string> words;
  // Descriptors of ours, each as which one of the child's. Stdin is /dev/null where none is named; all others but 0 to 2 are closed.
  std::vector<std::pair<int, int>> descriptors;
};

// Belongs to the loop's thread.
class Child {
 public:
  // `ended` is called once, from the loop, with the status as of wait(2). Errors: those of posix_spawn(3).
  static absl::StatusOr<std::unique_ptr<Child>> Start(EventLoop* loop, const ChildOptions& options,
                                                      std::function<void(int wait_status)> ended);
  // Kills it with KillAgentTree if it still runs, and waits for it.
  ~Child();

  pid_t pid() const { return pid_; }
  // Waits for its end at most so long; true: it has ended, and `ended` is not called any more.
  bool AwaitEnd(absl::Duration at_most);

 private:
  Child(EventLoop* loop, pid_t pid, UniqueFd pidfd) : loop_(loop), pid_(pid), pidfd_(std::move(pidfd)) {}
  void Forget();

  EventLoop* const loop_;
  const pid_t pid_;
  UniqueFd pidfd_;  // invalid: it has been waited for
};

// Ends an agent at once with all it has started: its guard and the guard's keeper end the workers, and are woken should they have
// been stopped with it.
void KillAgentTree(pid_t agent);

// "killed by SIGKILL", "exited with 3".
std::string HowItEnded(int wait_status);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_STARTER_CHILD_H_
