// The signals that `muster run` takes while a job runs.
#ifndef MUSTER_LAUNCHER_CLI_JOB_SIGNALS_H_
#define MUSTER_LAUNCHER_CLI_JOB_SIGNALS_H_

#include <signal.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

// SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGUSR1 and SIGUSR2, unless our parent has told us to ignore them (nohup, a background job of a
// shell without job control), SIGCONT and SIGWINCH. One at a time in a process; belongs to the loop's thread.
class JobSignals {
 public:
  // To be called before anything starts a thread: blocks them, and calls `taken` on the loop for each that comes, with
  // who sent it as SenderOf says.
  static absl::StatusOr<std::unique_ptr<JobSignals>> Take(EventLoop* loop, std::function<void(int signal, const std::string& by)> taken);
  // From here on those that would end the process have no effect for 2 s: the job's verdict is being written.
  ~JobSignals();

  // What was blocked before: for children.
  const sigset_t& old_mask() const { return old_mask_; }

 private:
  explicit JobSignals(EventLoop* loop) : loop_(loop) {}

  EventLoop* const loop_;
  sigset_t old_mask_;
  UniqueFd signals_;
};

// The terminal has echoed "^C" at the place where our next words would stand.
void LeaveLineOfCtrlC();

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_JOB_SIGNALS_H_
