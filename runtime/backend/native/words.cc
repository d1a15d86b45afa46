#include "runtime/backend/native/words.h"

#include <cstring>

#include "runtime/base/clock.h"
#include "runtime/base/status.h"
#include "runtime/shm/operation.h"

namespace muster {

absl::Status ExchangeBytes(Member& member, Network* network, v1::OpKind kind, int64_t count, const void* own, void* all,
                           absl::Time deadline) {
  Operation operation;
  operation.what.kind = kind;
  operation.what.count = count;
  operation.what.window = operation.what.window2 = v1::kPrivateMemory;
  operation.deadline = MonotonicDeadline(deadline);
  if (network != nullptr) {
    operation.input = own;
    operation.output = all;
    return RunAcrossNodes(member, *network, operation, nullptr);
  }
  MUSTER_RETURN_IF_ERROR(member.Begin(operation, nullptr));
  std::memcpy(member.payload(member.rank()), own, kWordBytes);
  MUSTER_RETURN_IF_ERROR(member.Exchange());
  for (int r = 0; r < member.ranks(); ++r) {
    std::memcpy(static_cast<char*>(all) + r * kWordBytes, member.payload(r), kWordBytes);
  }
  member.Finish(/*timed=*/true);
  return absl::OkStatus();
}

}  // namespace muster
