#include "runtime/base/status.h"
#include "runtime/shm/algorithms.h"
#include "runtime/shm/one_shot.h"

namespace muster {

absl::Status RunInFlagLine(Member& member, const Operation& operation) {
  Contribute(member, operation, member.payload(member.rank()));
  MUSTER_RETURN_IF_ERROR(member.Exchange());
  ComputeFromAll(member, operation, [&member](int r) { return member.payload(r); });
  return absl::OkStatus();
}

}  // namespace muster
