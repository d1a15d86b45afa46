// An operation that runs in the background.
#ifndef MUSTER_WORK_H_
#define MUSTER_WORK_H_

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace muster {

// Returned by the Start... methods of Communicator. Any thread may use it, one at a time. Destroying it does not cancel the
// operation: the buffer must stay alive until IsDone() or Wait() has said so.
class Work {
 public:
  virtual ~Work() = default;
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;

  // True once the operation has finished, well or badly. Never blocks.
  virtual bool IsDone() const = 0;

  // Blocks until the operation has finished and returns its result. May be called again and returns the same.
  virtual absl::Status Wait() = 0;

  // When the operation began and ended on this rank; InfinitePast() until then. For traces.
  virtual absl::Time StartTime() const = 0;
  virtual absl::Time EndTime() const = 0;

 protected:
  Work() = default;
};

}  // namespace muster

#endif  // MUSTER_WORK_H_
