#include "runtime/session/window_inbox.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace muster {
namespace {

// Making a window takes longer than this, and only an abort is found this late.
constexpr absl::Duration kAbortLook = absl::Milliseconds(10);

}  // namespace

absl::Status StatusOfAbort(uint64_t word, const std::string& doing) {
  const std::string rank = v1::AbortRankOf(word) == v1::kNoRank ? "a rank" : absl::StrCat("rank ", v1::AbortRankOf(word));
  switch (v1::AbortReasonOf(word)) {
    case v1::AbortReason::kPeerLost:
      return absl::UnavailableError(absl::StrCat(rank, " was lost ", doing));
    case v1::AbortReason::kPeerLeft:
      return absl::UnavailableError(absl::StrCat(rank, " left ", doing));
    case v1::AbortReason::kAgentLost:
      return absl::UnavailableError(absl::StrCat("the agent of this node went away ", doing));
    default:
      return absl::AbortedError(absl::StrCat("the generation ended ", doing));
  }
}

void WindowInbox::Put(uint32_t window, uint32_t local_rank, UniqueFd memory) {
  MutexLock lock(mutex_);
  if (window < closed_below_) return;
  windows_[window][local_rank] = std::move(memory);
  changed_.SignalAll();
}

void WindowInbox::Fail(absl::Status status) {
  MutexLock lock(mutex_);
  if (failure_.ok()) failure_ = std::move(status);
  changed_.SignalAll();
}

void WindowInbox::Forget(uint32_t window) {
  MutexLock lock(mutex_);
  windows_.erase(window);
  closed_below_ = std::max(closed_below_, window + 1);
}

absl::StatusOr<std::vector<UniqueFd>> WindowInbox::Collect(uint32_t window, uint32_t own, const v1::ControlHeader& control,
                                                           absl::Time deadline) {
  MutexLock lock(mutex_);
  while (true) {
    std::map<uint32_t, UniqueFd>& come = windows_[window];
    uint32_t missing = 0;
    while (missing < control.local_size && (missing == own || come.contains(missing))) ++missing;
    if (missing == control.local_size) break;
    if (!failure_.ok()) return failure_;
    const uint64_t abort_word = control.abort_word.load();
    if (abort_word != v1::kNoAbort) return StatusOfAbort(abort_word, absl::StrCat("while window ", window, " was exchanged"));
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError(absl::StrCat("window ", window, " of local rank ", missing, " had not come in time"));
    }
    changed_.WaitFor(mutex_, std::min(left, kAbortLook));
  }
  std::vector<UniqueFd> all(control.local_size);
  for (auto& [local_rank, memory] : windows_[window]) {
    if (local_rank < all.size() && local_rank != own) all[local_rank] = std::move(memory);
  }
  windows_.erase(window);
  return all;
}

}  // namespace muster
