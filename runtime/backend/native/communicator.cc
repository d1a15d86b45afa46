#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/backend/native/native.h"
#include "runtime/backend/native/place.h"
#include "runtime/backend/native/split.h"
#include "runtime/backend/native/windows.h"
#include "runtime/backend/shared/progress.h"
#include "runtime/backend/shared/queued_communicator.h"
#include "runtime/backend/shared/split_members.h"
#include "runtime/base/clock.h"
#include "runtime/base/status.h"
#include "runtime/collectives/across_nodes.h"
#include "runtime/collectives/registry.h"

namespace muster {
namespace {

constexpr Capabilities kCapabilities = {"native", /*windows_are_zero_copy=*/true, /*bits_follow_canonical_tree=*/true};

class NativeCommunicator : public QueuedCommunicator<NativeCommunicator> {
 public:
  explicit NativeCommunicator(NativePlace place)
      : QueuedCommunicator(place.rank(), place.world_size),
        place_(std::move(place)),
        member_(std::make_shared<Member>(place_.memory, place_.local_rank, place_.host, place_.first_rank, place_.world_size,
                                         place_.job_ranks, place_.record())),
        network_(place_.is_on_several_nodes()
                     ? std::make_unique<Network>(Nodes::Of(place_.node_of_rank, place_.rank()), std::move(place_.mesh),
                                                 place_.family->outer_wait_nanoseconds)
                     : nullptr),
        home_(std::make_shared<WindowHome>(WindowHome{member_, place_.link, network_.get(), place_.family})),
        progress_([this](const Operation& operation, const std::atomic<int>* callers_inside) {
          return Run(operation, callers_inside);
        }) {}

  ~NativeCommunicator() override {
    progress_.Finish();
    home_->link = nullptr;
    home_->network = nullptr;
    if (::getpid() != owner_) {  // a forked child has copies of the sockets, but this rank does not leave with it
      static_cast<void>(place_.own_link.release());  // somebody may have held its locks
      return;
    }
    if (network_ != nullptr) {
      network_->Leave(job_rank());
      if (place_.link != nullptr) place_.link->MeshEnds();
    }
    if (!place_.memory.is_of_all_ranks()) place_.memory.MarkLeft(place_.local_rank);
  }

  int rank() const override { return member_->world_rank(); }
  int world_size() const override { return member_->world_size(); }
  uint64_t generation() const override { return place_.generation; }
  const Capabilities& capabilities() const override { return kCapabilities; }

  absl::StatusOr<std::unique_ptr<Window>> CreateWindow(int64_t bytes, absl::Time deadline) override {
    if (bytes <= 0) return absl::InvalidArgumentError(absl::StrCat("a window of ", bytes, " bytes: must be more than 0"));
    MUSTER_RETURN_IF_ERROR(WaitForStarted(MonotonicDeadline(deadline)));
    absl::StatusOr<std::unique_ptr<Window>> window = CreateSharedWindow(home_, next_window_++, bytes, deadline);
    if (!window.ok()) ReportFailure();
    return window;
  }

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int key, absl::Time deadline) override {
    MUSTER_RETURN_IF_ERROR(CheckColor(color));
    MUSTER_RETURN_IF_ERROR(WaitForStarted(MonotonicDeadline(deadline)));
    absl::StatusOr<std::optional<NativePlace>> place = SplitPlace(place_, *home_, splits_++, color, key, deadline);
    if (!place.ok()) {
      ReportFailure();
      return place.status();
    }
    if (!place->has_value()) return nullptr;
    return std::make_unique<NativeCommunicator>(**std::move(place));
  }

  // This rank waits elsewhere, for the same ranks: it fails as a call here would.
  absl::Status WhyOver() {
    const std::optional<Failure> failure = member_->WhyOver();
    if (!failure.has_value()) return absl::OkStatus();
    Blame(*failure, /*op_seq=*/0);
    return failure->status;
  }

  void Blame(const Failure& failure, uint64_t op_seq) {
    Report(failure.rank, failure.reason, op_seq, std::string(failure.status.message()));
  }

  void Abort(absl::Status reason) override {
    member_->Abort(reason);
    if (network_ != nullptr) {
      network_->Tell({reason, v1::AbortReason::kAborted, job_rank(), 0, std::string(reason.message())}, job_rank());
    }
    Report(job_rank(), v1::AbortReason::kAborted, 0, std::string(reason.message()));
  }

 private:
  friend class QueuedCommunicator<NativeCommunicator>;

  uint32_t job_rank() const { return static_cast<uint32_t>(member_->JobRank(rank())); }

  absl::Status Now(const absl::StatusOr<Operation>& operation) {
    if (!operation.ok()) return operation.status();
    MUSTER_RETURN_IF_ERROR(WaitForStarted(operation->deadline));
    return Run(Located(*operation), nullptr);
  }

  absl::StatusOr<std::unique_ptr<Work>> Later(const absl::StatusOr<Operation>& operation) {
    if (!operation.ok()) return operation.status();
    return progress_.Start(Located(*operation));
  }

  // Small messages are copied anyway, wherever they lie; the choice of algorithm does not depend on it.
  Operation Located(Operation operation) const {
    const bool has_buffers = operation.what.kind != v1::OpKind::kBarrier;
    if (!has_buffers || member_->ranks() == 1 || ContributionBytes(operation) <= member_->copied_bytes_max()) return operation;
    const WindowMap::Location input = member_->windows().Find(operation.input, operations().InputBytes(operation));
    operation.what.window = input.window;
    operation.what.offset = input.offset;
    const WindowMap::Location output = operation.input == operation.output
                                           ? input
                                           : member_->windows().Find(operation.output, operations().OutputBytes(operation));
    operation.what.window2 = output.window;
    operation.what.offset2 = output.offset;
    return operation;
  }

  absl::Status Run(const Operation& operation, const std::atomic<int>* callers_inside) {
    absl::Status status = network_ == nullptr ? RunCollective(*member_, operation, callers_inside)
                                              : RunAcrossNodes(*member_, *network_, operation, callers_inside);
    if (!status.ok()) ReportFailure();
    return status;
  }

  absl::Status WaitForStarted(int64_t deadline) {
    if (progress_.IsIdle() || progress_.WaitUntilIdle(deadline)) return absl::OkStatus();
    // Running out of order is not possible, and the others wait for this rank: over for all.
    place_.memory.Raise(v1::PackAbort(v1::AbortReason::kDeadline, v1::kNoRank, 0));
    return absl::DeadlineExceededError("operations started before this call had not finished when its deadline passed");
  }

  // Called by whoever runs operations at the moment.
  void ReportFailure() {
    if (member_->failure().has_value()) Blame(*member_->failure(), member_->op_seq());
    member_->FinishFailed();
  }

  // The agent hears of the first failure only; of a communicator of some ranks, the link says that it is one.
  void Report(uint32_t blamed, v1::AbortReason reason, uint64_t op_seq, const std::string& message) {
    if (place_.link != nullptr && !reported_.exchange(true)) place_.link->ReportBlame(blamed, reason, op_seq, message);
  }

  const pid_t owner_ = ::getpid();
  NativePlace place_;  // without the mesh
  const std::shared_ptr<Member> member_;
  const std::unique_ptr<Network> network_;  // null on a single node
  const std::shared_ptr<WindowHome> home_;
  uint32_t next_window_ = 0;
  uint64_t splits_ = 0;
  std::atomic<bool> reported_{false};
  Progress progress_;  // last: its destructor lets started operations finish, which use all of the above
};

bool IsOnSeveralNodes(const NativeOptions& options) { return !options.node_of_rank.empty() && options.node_of_rank.back() > 0; }

absl::Status CheckNodes(const NativeOptions& options) {
  const auto local_size = static_cast<int>(options.control->local_size);
  if (!IsOnSeveralNodes(options)) {
    if (local_size == options.world_size && options.rank == options.local_rank) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("world of ", options.world_size, " ranks, ", local_size,
                                                   " of them on this node, and nothing said about other nodes"));
  }
  const std::vector<int>& node_of_rank = options.node_of_rank;
  bool in_order = static_cast<int>(node_of_rank.size()) == options.world_size && node_of_rank.front() == 0;
  for (size_t r = 1; r < node_of_rank.size(); ++r) {
    in_order = in_order && (node_of_rank[r] == node_of_rank[r - 1] || node_of_rank[r] == node_of_rank[r - 1] + 1);
  }
  if (!in_order) return absl::InvalidArgumentError("ranks of a node must follow each other, and nodes count up from 0");
  const Nodes nodes = Nodes::Of(node_of_rank, options.rank);
  if (nodes.ranks(nodes.node) != local_size || options.rank - nodes.first_rank(nodes.node) != options.local_rank) {
    return absl::InvalidArgumentError(absl::StrCat("rank ", options.rank, " is local rank ", options.local_rank, " of ",
                                                   local_size, ", but its node has ranks ", nodes.first_rank(nodes.node),
                                                   " to ", nodes.first_rank(nodes.node + 1) - 1));
  }
  const std::vector<int> peers = MeshPeers(node_of_rank, options.rank);
  if (peers != (options.mesh == nullptr ? std::vector<int>() : options.mesh->peers())) {
    return absl::InvalidArgumentError("the mesh does not connect this rank with the ranks of its lane");
  }
  if (options.control->staging_bytes < StagingBytesMin(nodes)) {
    return absl::InvalidArgumentError(absl::StrCat("staging buffers of ", options.control->staging_bytes,
                                                   " bytes are too small for ", nodes.count(), " nodes with ", nodes.lanes,
                                                   " lanes"));
  }
  return absl::OkStatus();
}

absl::Status Check(const NativeOptions& options) {
  const v1::ControlHeader* control = options.control;
  if (control == nullptr) return absl::InvalidArgumentError("no control memory");
  if (control->magic != v1::kControlMagic || control->version != v1::kControlVersion) {
    return absl::InvalidArgumentError(absl::StrCat("control memory of version ", control->version, ", this library speaks ",
                                                   v1::kControlVersion, ": agent and program must be of one muster version"));
  }
  if (options.rank < 0 || options.rank >= options.world_size) {
    return absl::InvalidArgumentError(absl::StrCat("rank ", options.rank, " in a world of ", options.world_size));
  }
  MUSTER_RETURN_IF_ERROR(CheckNodes(options));
  if (options.link == nullptr && options.world_size > 1) return absl::InvalidArgumentError("no link to the node's agent");
  const uint32_t staging_min = StagingBytesMin(static_cast<int>(control->local_size));
  if (control->staging_bytes < staging_min) {
    return absl::InvalidArgumentError(
        absl::StrCat("staging buffers of ", control->staging_bytes, " bytes, at least ", staging_min, " are needed"));
  }
  return absl::OkStatus();
}

}  // namespace

static_assert(v1::kStagingRowsMax == 2 * ReducePlan::kDepthMax);

uint32_t StagingBytesMin(int local_ranks) { return v1::StagingBytesMin(static_cast<uint32_t>(local_ranks)); }

uint32_t StagingBytesMin(const Nodes& nodes) {
  return static_cast<uint32_t>(
      v1::StagingBytesMinAcross(static_cast<uint64_t>(nodes.count()), static_cast<uint64_t>(nodes.lanes)));
}

absl::StatusOr<std::unique_ptr<Communicator>> CreateNativeCommunicator(NativeOptions options) {
  MUSTER_RETURN_IF_ERROR(Check(options));
  NativePlace place{.memory = options.control};
  place.family = std::make_shared<NativeFamily>();
  place.family->node_of_rank = options.node_of_rank;
  place.family->outer_wait_nanoseconds = options.outer_wait_nanoseconds;
  place.generation = options.generation;
  place.host = std::move(options.host);
  place.link = options.link;
  place.local_rank = options.local_rank;
  place.first_rank = options.rank - options.local_rank;
  place.world_size = options.world_size;
  place.node_of_rank = std::move(options.node_of_rank);
  place.mesh = std::move(options.mesh);
  return std::make_unique<NativeCommunicator>(std::move(place));
}

absl::Status WhyNativeIsOver(Communicator& native) { return static_cast<NativeCommunicator&>(native).WhyOver(); }

void BlameThroughNative(Communicator& native, const Failure& failure) {
  static_cast<NativeCommunicator&>(native).Blame(failure, /*op_seq=*/0);
}

}  // namespace muster
