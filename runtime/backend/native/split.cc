#include "runtime/backend/native/split.h"

#include <sys/stat.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "muster/communicator.h"
#include "runtime/backend/native/native.h"
#include "runtime/backend/native/words.h"
#include "runtime/backend/shared/split_members.h"
#include "runtime/base/sealed_memory.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

// Everybody is there when connections begin; what has not come about by then does not.
constexpr absl::Duration kConnectTime = absl::Seconds(30);

struct CallWord {
  SplitCall call;
  int64_t children = 0;
  int64_t reserved[4] = {};
};

struct StepWord {
  int64_t code = 0;  // absl::StatusCode
  int64_t port = 0;
  int64_t reserved[4] = {};
};

// Source of the mixing: Steele, Lea and Flood, OOPSLA 2014 (splitmix64).
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
  return x ^ x >> 31;
}

// Two communicators of a generation with one number are as likely as two equal random ones of 64 bits.
uint64_t NumberOf(uint64_t parent, uint64_t splits, int color) {
  const uint64_t number = Mix(Mix(Mix(parent) ^ splits) ^ static_cast<uint64_t>(color));
  return number == 0 ? 1 : number;
}

int FirstOfNode(const std::vector<int>& node_of_rank, int job_rank) {
  if (node_of_rank.empty()) return 0;
  const auto first = std::find(node_of_rank.begin(), node_of_rank.end(), node_of_rank[static_cast<size_t>(job_rank)]);
  return static_cast<int>(first - node_of_rank.begin());
}

// One rank's part in one split.
class Splitting {
 public:
  Splitting(const NativePlace& parent, const WindowHome& home, absl::Time deadline)
      : parent_(parent), member_(*home.member), network_(home.network), deadline_(deadline) {}
  ~Splitting() {
    if (place_.mesh != nullptr) place_.link->MeshEnds();
  }

  absl::StatusOr<std::optional<NativePlace>> Run(uint64_t splits, int color, int key) {
    std::unique_ptr<ChildCount> count = color == kNoColor ? nullptr : std::make_unique<ChildCount>(parent_.family);
    CallWord own = {{color, key}, count == nullptr ? 0 : count->before()};
    MUSTER_ASSIGN_OR_RETURN(const std::vector<CallWord> words,
                            ExchangeWords(member_, network_, v1::OpKind::kSplit, 0, own, deadline_));
    MUSTER_RETURN_IF_ERROR(CheckChildren(words));
    const bool member = color != kNoColor;
    absl::Status step;
    if (member) {
      Arrange(words, color, NumberOf(parent_.number, splits, color));
      place_.count = std::move(count);
      step = Prepare();
    }
    MUSTER_ASSIGN_OR_RETURN(const std::vector<StepWord> ports, Confirm(step));
    // Every link is open now, so what is offered is kept.
    if (member) step = OfferControl();
    MUSTER_RETURN_IF_ERROR(Confirm(step).status());
    if (member) step = Connect(ports);
    MUSTER_RETURN_IF_ERROR(Confirm(step).status());
    if (!member) return std::nullopt;
    return std::move(place_);
  }

 private:
  absl::Status CheckChildren(const std::vector<CallWord>& words) const {
    for (size_t r = 0; r < words.size(); ++r) {
      if (words[r].children < kNativeChildrenMax) continue;
      return absl::ResourceExhaustedError(absl::StrCat("rank ", member_.JobRank(static_cast<int>(r)), " has ",
                                                       kNativeChildrenMax,
                                                       " communicators made by Split, the most at a time; destroy some first"));
    }
    return absl::OkStatus();
  }

  // Who is in it, and where.
  void Arrange(const std::vector<CallWord>& words, int color, uint64_t number) {
    std::vector<SplitCall> calls;
    for (const CallWord& word : words) calls.push_back(word.call);
    members_ = SplitMembers(calls, color);
    place_.family = parent_.family;
    place_.number = number;
    place_.generation = parent_.generation;
    place_.host = parent_.host;
    place_.world_size = static_cast<int>(members_.size());
    for (const int rank : members_) place_.job_ranks.push_back(member_.JobRank(rank));
    const std::vector<int> nodes = RunsOfNodes(place_.family->node_of_rank, place_.job_ranks);
    const auto own = std::find(members_.begin(), members_.end(), member_.world_rank());
    const auto rank = static_cast<int>(own - members_.begin());
    std::vector<uint32_t> seats;
    for (int r = 0; r < place_.world_size; ++r) {
      if (nodes[static_cast<size_t>(r)] != nodes[static_cast<size_t>(rank)]) continue;
      if (seats.empty()) place_.first_rank = r;
      const int job_rank = place_.job_ranks[static_cast<size_t>(r)];
      seats.push_back(static_cast<uint32_t>(job_rank - FirstOfNode(place_.family->node_of_rank, job_rank)));
    }
    place_.local_rank = rank - place_.first_rank;
    if (nodes.back() > 0) place_.node_of_rank = nodes;
    seats_ = std::move(seats);
  }

  // As large as the parent's, and large enough for as many nodes.
  uint32_t StagingBytes() const {
    const v1::ControlHeader& parent = *parent_.memory.own();
    if (!place_.is_on_several_nodes()) return std::max(parent.staging_bytes, StagingBytesMin(static_cast<int>(seats_.size())));
    const Nodes nodes = Nodes::Of(place_.node_of_rank, place_.rank());
    uint32_t bytes = std::max(parent.staging_bytes, StagingBytesMin(nodes));
    for (int n = 0; n < nodes.count(); ++n) bytes = std::max(bytes, StagingBytesMin(nodes.ranks(n)));
    return bytes;
  }

  // What can be done before the others are known to do the same.
  absl::Status Prepare() {
    if (parent_.link != nullptr) {
      place_.own_link = parent_.link->Open(place_.number, seats_, place_.local_rank);
      place_.link = place_.own_link.get();
    }
    if (place_.local_rank == 0) MUSTER_RETURN_IF_ERROR(MakeControl());
    for (const int peer : MeshPeers(place_.node_of_rank, place_.rank())) {
      peers_.push_back(peer);
      if (JobRank(peer) < JobRank(place_.rank()) || listener_) continue;
      MUSTER_ASSIGN_OR_RETURN(listener_, place_.link->Listen(&port_));
    }
    return absl::OkStatus();
  }

  absl::Status MakeControl() {
    const v1::ControlHeader& parent = *parent_.memory.own();
    const auto ranks = static_cast<uint32_t>(seats_.size());
    const uint32_t staging_bytes = StagingBytes();
    if (ranks == 1) {
      MUSTER_ASSIGN_OR_RETURN(place_.own_control, LocalControl::Create(place_.generation, 1, parent.slot_bytes, staging_bytes));
      UseControl(place_.own_control->header());
      return absl::OkStatus();
    }
    const auto bytes = static_cast<int64_t>(v1::ControlMemoryBytes(ranks, parent.slot_bytes, staging_bytes));
    MUSTER_ASSIGN_OR_RETURN(control_fd_, CreateSealedMemory("muster-control", bytes));
    MUSTER_ASSIGN_OR_RETURN(place_.shared_control, Mapping::Map(control_fd_.get(), bytes));
    UseControl(v1::FormatControlMemory(place_.shared_control.data(), place_.generation, parent.job_id,
                                       static_cast<uint32_t>(place_.world_size), ranks, parent.slot_bytes, staging_bytes));
    return absl::OkStatus();
  }

  void UseControl(v1::ControlHeader* control) { place_.memory = NodeMemory(control, parent_.memory.generation(), seats_); }

  absl::Status OfferControl() {
    if (seats_.size() == 1 || place_.local_rank != 0) return absl::OkStatus();
    const UniqueFd fd = std::move(control_fd_);
    return place_.link->OfferWindow(kControlWindow, fd.get(), place_.shared_control.bytes());
  }

  absl::Status Connect(const std::vector<StepWord>& ports) {
    if (seats_.size() > 1 && place_.local_rank != 0) MUSTER_RETURN_IF_ERROR(CollectControl());
    if (peers_.empty()) return absl::OkStatus();
    std::vector<NodeLink::MeshPlace> places;
    for (const int peer : peers_) {
      const auto port = static_cast<uint16_t>(ports[static_cast<size_t>(members_[static_cast<size_t>(peer)])].port);
      places.push_back({JobRank(peer), port});
    }
    const absl::Time patience = absl::Now() + kConnectTime;
    MUSTER_ASSIGN_OR_RETURN(place_.mesh, place_.link->Connect(std::move(listener_), places, std::min(deadline_, patience),
                                                              [this] { return member_.IsAborted(); }));
    return absl::OkStatus();
  }

  absl::Status CollectControl() {
    MUSTER_ASSIGN_OR_RETURN(const UniqueFd fd, place_.link->CollectControl(deadline_));
    struct stat status = {};
    if (::fstat(fd.get(), &status) != 0) return absl::InternalError("control memory that is none");
    MUSTER_RETURN_IF_ERROR(CheckSealedMemory(fd.get(), status.st_size));
    MUSTER_ASSIGN_OR_RETURN(place_.shared_control, Mapping::Map(fd.get(), status.st_size));
    auto* const control = reinterpret_cast<v1::ControlHeader*>(place_.shared_control.data());
    if (status.st_size < static_cast<int64_t>(sizeof *control) || control->magic != v1::kControlMagic ||
        control->total_bytes != static_cast<uint64_t>(status.st_size) || control->local_size != seats_.size() ||
        control->total_bytes < v1::ControlMemoryBytes(control->local_size, control->slot_bytes, control->staging_bytes)) {
      return absl::InternalError("the control memory of the communicator does not fit its ranks");
    }
    UseControl(control);
    return absl::OkStatus();
  }

  // Tells all ranks of the parent whether this one's step went well; its error, or that another rank failed.
  absl::StatusOr<std::vector<StepWord>> Confirm(const absl::Status& own) {
    const StepWord word = {static_cast<int64_t>(own.code()), port_};
    MUSTER_ASSIGN_OR_RETURN(std::vector<StepWord> words,
                            ExchangeWords(member_, network_, v1::OpKind::kSplit, 0, word, deadline_));
    if (!own.ok()) return own;
    for (size_t r = 0; r < words.size(); ++r) {
      if (words[r].code == 0) continue;
      const auto code = static_cast<absl::StatusCode>(words[r].code);
      return absl::Status(code, absl::StrCat("rank ", member_.JobRank(static_cast<int>(r)),
                                             " could not make its part of a communicator: ", absl::StatusCodeToString(code)));
    }
    return words;
  }

  int JobRank(int rank) const { return place_.job_ranks[static_cast<size_t>(rank)]; }

  const NativePlace& parent_;
  Member& member_;
  Network* const network_;
  const absl::Time deadline_;
  NativePlace place_{.memory = parent_.memory};  // that memory until there is its own
  std::vector<int> members_;                     // the parent's ranks, by rank
  std::vector<uint32_t> seats_;                  // of this node's members in the generation, by local rank
  std::vector<int> peers_;                       // ranks on other nodes
  UniqueFd control_fd_, listener_;
  uint16_t port_ = 0;
};

}  // namespace

std::vector<int> RunsOfNodes(const std::vector<int>& node_of_rank, std::span<const int> job_ranks) {
  std::vector<int> runs(job_ranks.size(), 0);
  if (node_of_rank.empty()) return runs;
  const auto node_of = [&](size_t r) { return node_of_rank[static_cast<size_t>(job_ranks[r])]; };
  bool one_node = true;
  for (size_t r = 1; r < runs.size(); ++r) {
    one_node = one_node && node_of(r) == node_of(0);
    runs[r] = runs[r - 1] + (node_of(r) == node_of(r - 1) ? 0 : 1);
  }
  if (one_node) std::fill(runs.begin(), runs.end(), 0);
  return runs;
}

absl::StatusOr<std::optional<NativePlace>> SplitPlace(const NativePlace& parent, const WindowHome& home, uint64_t splits,
                                                      int color, int key, absl::Time deadline) {
  return Splitting(parent, home, deadline).Run(splits, color, key);
}

}  // namespace muster
