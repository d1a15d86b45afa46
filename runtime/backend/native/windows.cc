#include "runtime/backend/native/windows.h"

#include <cstring>
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
    home_->member->windows().Remove(window_);
    if (home_->link != nullptr) home_->link->ReleaseWindow(window_);
  }

  void* data() override { return data_; }
  int64_t bytes() const override { return bytes_; }

 private:
  const std::shared_ptr<WindowHome> home_;
  const uint32_t window_;
  char* const data_;
  const int64_t bytes_;
};

// One word from every rank, by rank: a small all-gather in the flag line, under the window's own announcement.
absl::StatusOr<std::vector<int64_t>> ExchangeWords(Member& member, int64_t bytes, int64_t word, absl::Time deadline) {
  Operation operation;
  operation.what.kind = v1::OpKind::kCreateWindow;
  operation.what.count = bytes;
  operation.what.window = operation.what.window2 = v1::kPrivateMemory;
  operation.deadline = MonotonicDeadline(deadline);
  MUSTER_RETURN_IF_ERROR(member.Begin(operation, nullptr));
  std::memcpy(member.payload(member.rank()), &word, sizeof(word));
  MUSTER_RETURN_IF_ERROR(member.Exchange());
  std::vector<int64_t> words(static_cast<size_t>(member.ranks()));
  for (int r = 0; r < member.ranks(); ++r) std::memcpy(&words[static_cast<size_t>(r)], member.payload(r), sizeof(word));
  member.Finish(/*timed=*/true);
  return words;
}

// The same answer on every rank, since all add up the same words.
absl::Status CheckMemoryLimit(Member& member, const NodeLink* link, int64_t bytes, absl::Time deadline) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<int64_t> held,
                          ExchangeWords(member, bytes, member.windows().own_bytes(), deadline));
  if (link == nullptr || link->memory_limit_bytes() == 0) return absl::OkStatus();
  const int64_t limit = link->memory_limit_bytes();
  int64_t free = limit;
  for (int64_t h : held) free -= h;
  if (bytes <= free / member.ranks()) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("a window of ", bytes, " bytes on each of ", member.ranks(), " ranks, with ",
                                                   limit - free, " bytes in windows already, goes beyond the memory limit of ",
                                                   limit, " bytes (", link->memory_limit_source(),
                                                   "); raise the limit, or use a smaller window or fewer ranks on this node"));
}

// Tells all whether this rank's step went well and returns its error, or that another rank failed.
absl::Status Confirm(Member& member, int64_t bytes, const absl::Status& own, absl::Time deadline) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<int64_t> codes,
                          ExchangeWords(member, bytes, static_cast<int64_t>(own.code()), deadline));
  if (!own.ok()) return own;
  for (size_t r = 0; r < codes.size(); ++r) {
    if (codes[r] == 0) continue;
    const auto code = static_cast<absl::StatusCode>(codes[r]);
    return absl::Status(
        code, absl::StrCat("rank ", r, " could not make its window of ", bytes, " bytes: ", absl::StatusCodeToString(code)));
  }
  return absl::OkStatus();
}

struct OwnMemory {
  UniqueFd fd;
  Mapping mapping;
};

absl::StatusOr<OwnMemory> MakeOwnMemory(int64_t bytes) {
  OwnMemory own;
  MUSTER_ASSIGN_OR_RETURN(own.fd, CreateSealedMemory("muster-window", bytes));
  MUSTER_ASSIGN_OR_RETURN(own.mapping, Mapping::Map(own.fd.get(), bytes));
  return own;
}

// All members' mappings by local rank; moves `own` into its place.
absl::StatusOr<std::vector<Mapping>> MapAll(Member& member, NodeLink* link, uint32_t window, int64_t bytes, OwnMemory& own,
                                            absl::Time deadline) {
  std::vector<Mapping> mappings(static_cast<size_t>(member.ranks()));
  if (member.ranks() > 1) {
    MUSTER_RETURN_IF_ERROR(link->OfferWindow(window, own.fd.get(), bytes));
    MUSTER_ASSIGN_OR_RETURN(const std::vector<UniqueFd> fds, link->CollectWindow(window, deadline));
    if (fds.size() != mappings.size()) return absl::InternalError("CollectWindow did not give one descriptor a rank");
    for (size_t r = 0; r < fds.size(); ++r) {
      if (static_cast<int>(r) == member.rank()) continue;
      MUSTER_ASSIGN_OR_RETURN(mappings[r], Mapping::Map(fds[r].get(), bytes));
    }
  }
  mappings[static_cast<size_t>(member.rank())] = std::move(own.mapping);
  return mappings;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Window>> CreateSharedWindow(std::shared_ptr<WindowHome> home, uint32_t window, int64_t bytes,
                                                           absl::Time deadline) {
  Member& member = *home->member;
  MUSTER_RETURN_IF_ERROR(CheckMemoryLimit(member, home->link, bytes, deadline));
  absl::StatusOr<OwnMemory> own = MakeOwnMemory(bytes);
  MUSTER_RETURN_IF_ERROR(Confirm(member, bytes, own.status(), deadline));
  absl::StatusOr<std::vector<Mapping>> mappings = MapAll(member, home->link, window, bytes, *own, deadline);
  const absl::Status confirmed = Confirm(member, bytes, mappings.status(), deadline);
  if (!confirmed.ok()) {
    if (home->link != nullptr && member.ranks() > 1) home->link->ReleaseWindow(window);
    return confirmed;
  }
  char* const data = (*mappings)[static_cast<size_t>(member.rank())].data();
  member.windows().Add(window, member.rank(), *std::move(mappings));
  return std::make_unique<SharedWindow>(std::move(home), window, data, bytes);
}

}  // namespace muster
