#include "runtime/session/window_inbox.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/log.h"

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

void WindowInbox::Open(uint64_t communicator) {
  MutexLock lock(mutex_);
  opened_.try_emplace(communicator);
}

void WindowInbox::Close(uint64_t communicator) {
  MutexLock lock(mutex_);
  opened_.erase(communicator);
}

void WindowInbox::Put(uint64_t communicator, uint32_t window, uint32_t local_rank, UniqueFd memory) {
  MutexLock lock(mutex_);
  const auto opened = opened_.find(communicator);
  if (opened == opened_.end() || window < opened->second.closed_below) return;
  opened->second.windows[window][local_rank] = std::move(memory);
  changed_.SignalAll();
}

void WindowInbox::Fail(absl::Status status) {
  MutexLock lock(mutex_);
  if (failure_.ok()) failure_ = std::move(status);
  changed_.SignalAll();
}

void WindowInbox::Forget(uint64_t communicator, uint32_t window) {
  MutexLock lock(mutex_);
  const auto opened = opened_.find(communicator);
  if (opened == opened_.end()) return;
  opened->second.windows.erase(window);
  opened->second.closed_below = std::max(opened->second.closed_below, window + 1);
}

absl::StatusOr<std::vector<UniqueFd>> WindowInbox::Collect(uint64_t communicator, uint32_t window,
                                                           std::span<const uint32_t> from, const v1::ControlHeader& control,
                                                           absl::Time deadline) {
  MutexLock lock(mutex_);
  const auto opened = opened_.find(communicator);
  MUSTER_CHECK(opened != opened_.end(), "who collects has opened the communicator and not closed it");
  std::map<uint32_t, UniqueFd>& come = opened->second.windows[window];  // its place stays
  while (true) {
    const auto missing = std::find_if(from.begin(), from.end(), [&come](uint32_t rank) { return !come.contains(rank); });
    if (missing == from.end()) break;
    if (!failure_.ok()) return failure_;
    const uint64_t abort_word = control.abort_word.load();
    if (abort_word != v1::kNoAbort) return StatusOfAbort(abort_word, absl::StrCat("while window ", window, " was exchanged"));
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError(absl::StrCat("window ", window, " of local rank ", *missing, " had not come in time"));
    }
    changed_.WaitFor(mutex_, std::min(left, kAbortLook));
  }
  std::vector<UniqueFd> all;
  for (const uint32_t rank : from) all.push_back(std::move(come[rank]));
  opened->second.windows.erase(window);
  return all;
}

}  // namespace muster
