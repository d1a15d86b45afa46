#include "runtime/shm/algorithms.h"
#include "runtime/shm/one_shot.h"

namespace muster {

absl::Status RunInSlots(Member& member, const Operation& operation) {
  return RunOneShot(
      member, operation, [&member](int r) { return member.slot(r); }, operation.row_bytes());
}

}  // namespace muster
