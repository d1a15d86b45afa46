#include "runtime/base/status.h"
#include "runtime/shm/algorithms.h"
#include "runtime/shm/one_shot.h"

namespace muster {

void PutInSlot(Member& member, const Operation& operation) {
  if (operation.what.window == v1::kPrivateMemory) Contribute(member, operation, member.slot(member.rank()));
}

absl::Status RunInSlots(Member& member, const Operation& operation) {
  if (ContributionBytes(operation) > member.copied_bytes_max() && member.SomeInputInWindow()) {
    // Who lies in a window had hoped that all do, and has put nothing in its slot.
    if (operation.what.window != v1::kPrivateMemory) Contribute(member, operation, member.slot(member.rank()));
    MUSTER_RETURN_IF_ERROR(member.Step());
  }
  ComputeFromAll(member, operation, [&member](int r) { return member.slot(r); });
  return absl::OkStatus();
}

}  // namespace muster
