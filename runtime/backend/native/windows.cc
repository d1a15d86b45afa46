#include "runtime/backend/native/windows.h"

#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/clock.h"
#include "runtime/base/status.h"
#include "runtime/collectives/across_nodes.h"
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

// What ranks tell each other on the way.
struct Word {
  int64_t value = 0;
  int64_t available_bytes = 0;
  int64_t limit_bytes = 0;  // 0: none known
  int64_t reserved[3] = {};
};
static_assert(sizeof(Word) == kWindowWordBytes);

// A small all-gather, by rank of the world, under the window's own announcement.
absl::StatusOr<std::vector<Word>> ExchangeWords(const WindowHome& home, int64_t bytes, const Word& own, absl::Time deadline) {
  Member& member = *home.member;
  Operation operation;
  operation.what.kind = v1::OpKind::kCreateWindow;
  operation.what.count = bytes;
  operation.what.window = operation.what.window2 = v1::kPrivateMemory;
  operation.deadline = MonotonicDeadline(deadline);
  std::vector<Word> words(static_cast<size_t>(member.world_size()));
  if (home.network != nullptr) {
    operation.input = &own;
    operation.output = words.data();
    MUSTER_RETURN_IF_ERROR(RunAcrossNodes(member, *home.network, operation, nullptr));
    return words;
  }
  MUSTER_RETURN_IF_ERROR(member.Begin(operation, nullptr));
  std::memcpy(member.payload(member.rank()), &own, sizeof(own));
  MUSTER_RETURN_IF_ERROR(member.Exchange());
  for (int r = 0; r < member.ranks(); ++r) std::memcpy(&words[static_cast<size_t>(r)], member.payload(r), sizeof(Word));
  member.Finish(/*timed=*/true);
  return words;
}

// Whether the ranks of a node, which brought `words`, may have a window of `bytes` each. `limit_source` as NodeLink says.
absl::Status CheckNode(std::span<const Word> words, int64_t bytes, const std::string& limit_source) {
  const int64_t ranks = static_cast<int64_t>(words.size());
  int64_t held = 0;
  int64_t available = words[0].available_bytes;
  for (const Word& word : words) {
    held += word.value;
    available = std::min(available, word.available_bytes);
  }
  const std::string what = absl::StrCat("a window of ", bytes, " bytes on each of ", ranks, " ranks");
  const int64_t limit = words[0].limit_bytes;
  if (limit != 0 && bytes > (limit - held) / ranks) {
    return absl::ResourceExhaustedError(
        absl::StrCat(what, ", with ", held, " bytes in windows already, goes beyond the memory limit of ", limit, " bytes (",
                     limit_source, "); raise the limit, or use a smaller window or fewer ranks on this node"));
  }
  if (bytes > available / ranks) {
    return absl::ResourceExhaustedError(
        absl::StrCat(what, " goes beyond the ", available,
                     " bytes that this machine has available (MemAvailable of /proc/meminfo); use "
                     "a smaller window or fewer ranks on this node"));
  }
  return absl::OkStatus();
}

// The same answer on every rank, since all look at the same words.
absl::Status CheckMemoryLimit(const WindowHome& home, int64_t bytes, absl::Time deadline) {
  const Member& member = *home.member;
  const int64_t limit = home.link == nullptr ? 0 : home.link->memory_limit_bytes();
  MUSTER_ASSIGN_OR_RETURN(
      const std::vector<Word> words,
      ExchangeWords(home, bytes, {home.member->windows().own_bytes(), AvailableMemoryBytes(), limit}, deadline));
  const std::span<const Word> all(words);
  const std::string own_source = home.link == nullptr ? "" : home.link->memory_limit_source();
  if (home.network == nullptr) return CheckNode(all, bytes, own_source);
  const Nodes& nodes = home.network->nodes();
  for (int n = 0; n < nodes.count(); ++n) {
    const auto first = static_cast<uint32_t>(nodes.first_rank(n));
    const std::string host = member.HostOf(first);
    const std::string source = n == nodes.node ? own_source : absl::StrCat("of node ", n);
    const absl::Status status = CheckNode(all.subspan(first, static_cast<size_t>(nodes.ranks(n))), bytes, source);
    if (!status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat("node ", n, host.empty() ? "" : absl::StrCat(" (", host, ")"), ": ", status.message()));
    }
  }
  return absl::OkStatus();
}

// Tells all whether this rank's step went well and returns its error, or that another rank failed.
absl::Status Confirm(const WindowHome& home, int64_t bytes, const absl::Status& own, absl::Time deadline) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<Word> words,
                          ExchangeWords(home, bytes, {static_cast<int64_t>(own.code())}, deadline));
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
  MUSTER_RETURN_IF_ERROR(CheckMemoryLimit(*home, bytes, deadline));
  absl::StatusOr<Mapping> own = MakeOwn(member, home->link, window, bytes);
  absl::Status confirmed = Confirm(*home, bytes, own.status(), deadline);
  if (confirmed.ok()) {
    absl::StatusOr<std::vector<Mapping>> mappings = MapAll(member, home->link, window, bytes, *std::move(own), deadline);
    confirmed = Confirm(*home, bytes, mappings.status(), deadline);
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
