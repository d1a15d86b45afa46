#include "runtime/backend/shared/split_members.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "muster/communicator.h"

namespace muster {

absl::Status CheckColor(int color) {
  if (color >= 0 || color == kNoColor) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("color ", color, ": must be 0 or more, or kNoColor (", kNoColor, ") to be in no communicator"));
}

std::vector<int> SplitMembers(std::span<const SplitCall> calls, int color) {
  std::vector<int> members;
  for (size_t r = 0; r < calls.size(); ++r) {
    if (calls[r].color == color) members.push_back(static_cast<int>(r));
  }
  std::stable_sort(members.begin(), members.end(),
                   [&calls](int a, int b) { return calls[static_cast<size_t>(a)].key < calls[static_cast<size_t>(b)].key; });
  return members;
}

}  // namespace muster
