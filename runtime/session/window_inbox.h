// Windows that the other local ranks have offered and this rank has not collected yet.
#ifndef MUSTER_RUNTIME_SESSION_WINDOW_INBOX_H_
#define MUSTER_RUNTIME_SESSION_WINDOW_INBOX_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/base/fd.h"
#include "runtime/base/mutex.h"

namespace muster {

// What an abort word says to whoever was `doing` something ("while window 3 was exchanged") when it was raised.
absl::Status StatusOfAbort(uint64_t word, const std::string& doing);

// Memory comes with the number of its communicator; that of one which is not open here is dropped. Local ranks are the generation's.
// Any thread.
class WindowInbox {
 public:
  // Before any of the communicator's members offers something, more than once does no harm; and when nothing is wanted any more.
  void Open(uint64_t communicator);
  void Close(uint64_t communicator);

  void Put(uint64_t communicator, uint32_t window, uint32_t local_rank, UniqueFd memory);
  // Every waiting and later Collect returns `status`.
  void Fail(absl::Status status);
  // Blocks until `window` of every rank of `from` is there; in their order. Watches the abort word of `control`, the generation's, as
  // well: the agent announces a death there and nowhere else.
  // Errors: what Fail was given, Unavailable (a rank is lost), DeadlineExceeded (names a rank whose window is missing).
  absl::StatusOr<std::vector<UniqueFd>> Collect(uint64_t communicator, uint32_t window, std::span<const uint32_t> from,
                                                const v1::ControlHeader& control, absl::Time deadline);
  // Drops what has come for `window` and what still comes for it or for one before it: windows are made in the order of their
  // numbers, and a rank that could not make its own must not keep the others' memory.
  void Forget(uint64_t communicator, uint32_t window);

 private:
  struct Opened {
    uint32_t closed_below = 0;
    std::map<uint32_t, std::map<uint32_t, UniqueFd>> windows;  // window -> local rank -> memory
  };

  Mutex mutex_;
  CondVar changed_;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, Opened> opened_ ABSL_GUARDED_BY(mutex_);  // by communicator
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_SESSION_WINDOW_INBOX_H_
