#include "runtime/backend/native/windows.h"

#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/backend/native/words.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

// This rank's windows, of all its communicators, have grown by `bytes` (or shrunk): ranks of its node that are in other
// communicators can see it.
void Account(const WindowHome& home, int64_t bytes) {
  const int64_t now = home.family->window_bytes.fetch_add(bytes) + bytes;
  if (home.link == nullptr) return;  // the memory may be gone with the communicator
  home.member->memory().seat_area(home.member->rank()).window_bytes.store(now, std::memory_order_relaxed);
}

// What ranks tell each other on the way.
struct Word {
  int64_t value = 0;
  int64_t available_bytes = 0;
  int64_t limit_bytes = 0;   // 0: none known
  int64_t others_bytes = 0;  // in windows of ranks of this node that are no members here, as far as this rank sees
  int64_t reserved[2] = {};
};

int64_t OthersBytes(const Member& member) {
  const NodeMemory& memory = member.memory();
  int64_t bytes = 0;
  for (uint32_t i = 0; i < memory.generation()->local_size; ++i) {
    bytes += v1::RankAreaOf(memory.generation(), i).window_bytes.load(std::memory_order_relaxed);
  }
  for (int r = 0; r < member.ranks(); ++r) bytes -= memory.seat_area(r).window_bytes.load(std::memory_order_relaxed);
  return std::max<int64_t>(bytes, 0);
}

// By rank of the world, under the window's own announcement.
absl::StatusOr<std::vector<Word>> Exchange(const WindowHome& home, int64_t bytes, const Word& own, absl::Time deadline) {
  return ExchangeWords(*home.member, home.network, v1::OpKind::kCreateWindow, bytes, own, deadline);
}

class SharedWindow : public Window {
 public:
  SharedWindow(std::shared_ptr<WindowHome> home, uint32_t window, char* data, int64_t bytes)
      : home_(std::move(home)), window_(window), data_(data), bytes_(bytes) {}

  ~SharedWindow() override {
    if (::getpid() != owner_) return;  // a forked child: neither the memory nor the link is its own
    home_->member->windows().Remove(window_);
    Account(*home_, -bytes_);
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

// Whether the ranks of a node, which brought `words`, may have a window of `bytes` each. `limit_source` as NodeLink says.
absl::Status CheckNode(std::span<const Word> words, int64_t bytes, const std::string& limit_source) {
  const int64_t ranks = static_cast<int64_t>(words.size());
  int64_t held = 0;
  int64_t others = 0;
  int64_t available = words[0].available_bytes;
  for (const Word& word : words) {
    held += word.value;
    others = std::max(others, word.others_bytes);
    available = std::min(available, word.available_bytes);
  }
  held += others;
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
      Exchange(home, bytes, {home.family->window_bytes.load(), AvailableMemoryBytes(), limit, OthersBytes(member)}, deadline));
  const std::span<const Word> all(words);
  const std::string own_source = home.link == nullptr ? "" : home.link->memory_limit_source();
  if (home.network == nullptr) return CheckNode(all, bytes, own_source);
  const Nodes& nodes = home.network->nodes();
  for (int n = 0; n < nodes.count(); ++n) {
    const auto first = static_cast<uint32_t>(nodes.first_rank(n));
    const std::string host = member.HostOf(static_cast<uint32_t>(member.JobRank(nodes.first_rank(n))));
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
  MUSTER_ASSIGN_OR_RETURN(const std::vector<Word> words, Exchange(home, bytes, {static_cast<int64_t>(own.code())}, deadline));
  if (!own.ok()) return own;
  for (size_t r = 0; r < words.size(); ++r) {
    if (words[r].value == 0) continue;
    const auto code = static_cast<absl::StatusCode>(words[r].value);
    return absl::Status(code, absl::StrCat("rank ", home.member->JobRank(static_cast<int>(r)), " could not make its window of ",
                                           bytes, " bytes: ", absl::StatusCodeToString(code)));
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
  Account(*home, bytes);  // before the others know of it, so that none counts too little when the next one is made
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
  Account(*home, -bytes);
  if (home->link != nullptr && member.ranks() > 1) home->link->ReleaseWindow(window);
  return confirmed;
}

}  // namespace muster
