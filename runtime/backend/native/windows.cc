#include "runtime/backend/native/windows.h"

#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/clock.h"
#include "runtime/base/status.h"
#include "runtime/shm/operation.h"

namespace muster {
namespace {

class SharedWindow : public Window {
 public:
  SharedWindow(std::shared_ptr<WindowHome> home, uint32_t window, char* data, int64_t bytes)
      : home_(std::move(home)), window_(window), data_(data), bytes_(bytes) {}

  ~SharedWindow() override {
    if (::getpid() != owner_) return;  // a forked child: neither the memory nor the link is its own
    home_->member->windows().Remove(window_);
    if (home_->link != nullptr && home_->member->ranks() > 1) home_->link->ReleaseWindow(window_);
  }

  void* data() override { return data_; }
  int64_t bytes() const override { return bytes_; }

 private:
  const pid_t owner_ = ::getpid();
  const std::shared_ptr<WindowHome> home_;
  const uint32_t window_;
  char* const data_;
  const int64_t bytes_;
};

// What ranks tell each other on the way, in the flag line's payload.
struct Word {
  int64_t value = 0;
  int64_t available_bytes = 0;
};
static_assert(sizeof(Word) <= v1::kFlagPayloadBytes);

// A small all-gather, by rank, under the window's own announcement.
absl::StatusOr<std::vector<Word>> ExchangeWords(Member& member, int64_t bytes, const Word& own, absl::Time deadline) {
  Operation operation;
  operation.what.kind = v1::OpKind::kCreateWindow;
  operation.what.count = bytes;
  operation.what.window = operation.what.window2 = v1::kPrivateMemory;
  operation.deadline = MonotonicDeadline(deadline);
  MUSTER_RETURN_IF_ERROR(member.Begin(operation, nullptr));
  std::memcpy(member.payload(member.rank()), &own, sizeof(own));
  MUSTER_RETURN_IF_ERROR(member.Exchange());
  std::vector<Word> words(static_cast<size_t>(member.ranks()));
  for (int r = 0; r < member.ranks(); ++r) std::memcpy(&words[static_cast<size_t>(r)], member.payload(r), sizeof(Word));
  member.Finish(/*timed=*/true);
  return words;
}

// The same answer on every rank, since all look at the same words.
absl::Status CheckMemoryLimit(Member& member, const NodeLink* link, int64_t bytes, absl::Time deadline) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<Word> words,
                          ExchangeWords(member, bytes, {member.windows().own_bytes(), AvailableMemoryBytes()}, deadline));
  int64_t held = 0;
  int64_t available = words[0].available_bytes;
  for (const Word& word : words) {
    held += word.value;
    available = std::min(available, word.available_bytes);
  }
  const std::string what = absl::StrCat("a window of ", bytes, " bytes on each of ", member.ranks(), " ranks");
  const int64_t limit = link == nullptr ? 0 : link->memory_limit_bytes();
  if (limit != 0 && bytes > (limit - held) / member.ranks()) {
    return absl::ResourceExhaustedError(
        absl::StrCat(what, ", with ", held, " bytes in windows already, goes beyond the memory limit of ", limit, " bytes (",
                     link->memory_limit_source(), "); raise the limit, or use a smaller window or fewer ranks on this node"));
  }
  if (bytes > available / member.ranks()) {
    return absl::ResourceExhaustedError(
        absl::StrCat(what, " goes beyond the ", available,
                     " bytes that this machine has available (MemAvailable of /proc/meminfo); use "
                     "a smaller window or fewer ranks on this node"));
  }
  return absl::OkStatus();
}

// Tells all whether this rank's step went well and returns its error, or that another rank failed.
absl::Status Confirm(Member& member, int64_t bytes, const absl::Status& own, absl::Time deadline) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<Word> words,
                          ExchangeWords(member, bytes, {static_cast<int64_t>(own.code()), 0}, deadline));
  if (!own.ok()) return own;
  for (size_t r = 0; r < words.size(); ++r) {
    if (words[r].value == 0) continue;
    const auto code = static_cast<absl::StatusCode>(words[r].value);
    return absl::Status(
        code, absl::StrCat("rank ", r, " could not make its window of ", bytes, " bytes: ", absl::StatusCodeToString(code)));
  }
  return absl::OkStatus();
}

// This rank's memory, offered to the others.
absl::StatusOr<Mapping> MakeOwn(Member& member, NodeLink* link, uint32_t window, int64_t bytes) {
  MUSTER_ASSIGN_OR_RETURN(const UniqueFd fd, CreateSealedMemory("muster-window", bytes));
  MUSTER_ASSIGN_OR_RETURN(Mapping mapping, Mapping::Map(fd.get(), bytes));
  if (member.ranks() > 1) MUSTER_RETURN_IF_ERROR(link->OfferWindow(window, fd.get(), bytes));
  return mapping;
}

// All members' mappings by local rank, `own` among them.
absl::StatusOr<std::vector<Mapping>> MapAll(Member& member, NodeLink* link, uint32_t window, int64_t bytes, Mapping own,
                                            absl::Time deadline) {
  std::vector<Mapping> mappings(static_cast<size_t>(member.ranks()));
  mappings[static_cast<size_t>(member.rank())] = std::move(own);
  if (member.ranks() == 1) return mappings;
  MUSTER_ASSIGN_OR_RETURN(const std::vector<UniqueFd> fds, link->CollectWindow(window, deadline));
  if (fds.size() != mappings.size()) return absl::InternalError("CollectWindow did not give one descriptor a rank");
  for (size_t r = 0; r < fds.size(); ++r) {
    if (static_cast<int>(r) == member.rank()) continue;
    MUSTER_ASSIGN_OR_RETURN(mappings[r], Mapping::Map(fds[r].get(), bytes));
  }
  return mappings;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Window>> CreateSharedWindow(std::shared_ptr<WindowHome> home, uint32_t window, int64_t bytes,
                                                           absl::Time deadline) {
  Member& member = *home->member;
  MUSTER_RETURN_IF_ERROR(CheckMemoryLimit(member, home->link, bytes, deadline));
  absl::StatusOr<Mapping> own = MakeOwn(member, home->link, window, bytes);
  absl::Status confirmed = Confirm(member, bytes, own.status(), deadline);
  if (confirmed.ok()) {
    absl::StatusOr<std::vector<Mapping>> mappings = MapAll(member, home->link, window, bytes, *std::move(own), deadline);
    confirmed = Confirm(member, bytes, mappings.status(), deadline);
    if (confirmed.ok()) {
      char* const data = (*mappings)[static_cast<size_t>(member.rank())].data();
      member.windows().Add(window, member.rank(), *std::move(mappings));
      return std::make_unique<SharedWindow>(std::move(home), window, data, bytes);
    }
  }
  if (home->link != nullptr && member.ranks() > 1) home->link->ReleaseWindow(window);
  return confirmed;
}

}  // namespace muster
