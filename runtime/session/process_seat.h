// The one session that a process may have: what happens to it at exit and in forked children.
#ifndef MUSTER_RUNTIME_SESSION_PROCESS_SEAT_H_
#define MUSTER_RUNTIME_SESSION_PROCESS_SEAT_H_

#include <sys/types.h>

#include <functional>
#include <span>

#include "absl/status/status.h"

namespace muster {

// Any thread. The process-wide state behind it is unavoidable: exit and fork are process-wide.
class ProcessSeat {
 public:
  // `leave_at_exit` is called if the process that took the seat exits (exit(3), return from main) before it is given back.
  // Errors: AlreadyExists (a session is open).
  static absl::Status Take(std::function<void()> leave_at_exit);
  // Adds descriptors to be closed in every child that is forked from now on, until the seat is given back. One that is closed
  // before and used anew by somebody else is left alone.
  static void CloseInChildren(std::span<const int> descriptors);
  static void GiveBack();
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_SESSION_PROCESS_SEAT_H_
