// Who is in which communicator after Communicator::Split.
#ifndef MUSTER_RUNTIME_BACKEND_SHARED_SPLIT_MEMBERS_H_
#define MUSTER_RUNTIME_BACKEND_SHARED_SPLIT_MEMBERS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"

namespace muster {

// What a rank says at Split.
struct SplitCall {
  int32_t color = 0;
  int32_t key = 0;
};

// Errors: InvalidArgument unless `color` is one that Communicator::Split takes.
absl::Status CheckColor(int color);

// The ranks that gave `color`, in the order that they have in its communicator. Pure.
std::vector<int> SplitMembers(std::span<const SplitCall> calls, int color);

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_SHARED_SPLIT_MEMBERS_H_
