// Passing errors on, and turning errno into a Status.
#ifndef MUSTER_RUNTIME_BASE_STATUS_H_
#define MUSTER_RUNTIME_BASE_STATUS_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

// A Status for a failed system call: `what` names the call and its object, as in "open /data/words". ENOENT is NotFound, EACCES and
// EPERM are PermissionDenied, EEXIST is AlreadyExists, ENOSPC, EDQUOT, ENOMEM, EMFILE and ENFILE are ResourceExhausted, EINVAL is
// InvalidArgument, ETIMEDOUT is DeadlineExceeded, EPIPE and the ECONN... codes are Unavailable, all others Internal.
absl::Status ErrnoToStatus(int error, absl::string_view what);

// `status` with "`prefix`: " before its message; OK stays OK.
absl::Status Annotate(const absl::Status& status, absl::string_view prefix);

}  // namespace muster

#define MUSTER_RETURN_IF_ERROR(expression)                                                       \
  do {                                                                                           \
    if (absl::Status muster_status_ = (expression); !muster_status_.ok()) return muster_status_; \
  } while (false)

#define MUSTER_CONCAT_INNER_(a, b) a##b
#define MUSTER_CONCAT_(a, b) MUSTER_CONCAT_INNER_(a, b)
#define MUSTER_ASSIGN_OR_RETURN_(value, target, expression) \
  auto value = (expression);                                \
  if (!value.ok()) return std::move(value).status();        \
  target = *std::move(value)
// MUSTER_ASSIGN_OR_RETURN(auto fd, OpenFile(path));
#define MUSTER_ASSIGN_OR_RETURN(target, expression) \
  MUSTER_ASSIGN_OR_RETURN_(MUSTER_CONCAT_(muster_or_, __LINE__), target, expression)

#endif  // MUSTER_RUNTIME_BASE_STATUS_H_
