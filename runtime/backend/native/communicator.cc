#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/muster/v1/control_wake.h"
#include "runtime/backend/native/native.h"
#include "runtime/backend/native/operations.h"
#include "runtime/backend/native/progress.h"
#include "runtime/backend/native/windows.h"
#include "runtime/base/clock.h"
#include "runtime/base/status.h"
#include "runtime/collectives/registry.h"

namespace muster {
namespace {

constexpr Capabilities kCapabilities = {"native", /*windows_are_zero_copy=*/true, /*bits_follow_canonical_tree=*/true};

class NativeCommunicator : public Communicator {
 public:
  explicit NativeCommunicator(const NativeOptions& options)
      : generation_(options.generation),
        control_(options.control),
        link_(options.link),
        member_(std::make_shared<Member>(options.control, options.local_rank, options.host)),
        home_(std::make_shared<WindowHome>(WindowHome{member_, options.link})),
        operations_(*member_),
        progress_([this](const Operation& operation, const std::atomic<int>* callers_inside) {
          return Run(operation, callers_inside);
        }) {}

  ~NativeCommunicator() override { home_->link = nullptr; }

  int rank() const override { return member_->rank(); }
  int world_size() const override { return member_->ranks(); }
  uint64_t generation() const override { return generation_; }
  const Capabilities& capabilities() const override { return kCapabilities; }

  absl::Status AllReduce(Tensor buffer, ReduceOp op, absl::Time deadline) override {
    return Now(operations_.AllReduce(buffer, op, deadline));
  }
  absl::Status AllReduceShards(ShardedTensor partials, ReduceOp op, absl::Time deadline) override {
    return Now(operations_.AllReduceShards(partials, op, deadline));
  }
  absl::Status Broadcast(Tensor buffer, int root, absl::Time deadline) override {
    return Now(operations_.Broadcast(buffer, root, deadline));
  }
  absl::Status AllGather(ConstTensor send, Tensor receive, absl::Time deadline) override {
    return Now(operations_.AllGather(send, receive, deadline));
  }
  absl::Status ReduceScatter(Tensor send, Tensor receive, ReduceOp op, absl::Time deadline) override {
    return Now(operations_.ReduceScatter(send, receive, op, deadline));
  }
  absl::Status Barrier(absl::Time deadline) override { return Now(operations_.Barrier(deadline)); }

  absl::StatusOr<std::unique_ptr<Work>> StartAllReduce(Tensor buffer, ReduceOp op, absl::Time deadline) override {
    return Later(operations_.AllReduce(buffer, op, deadline));
  }
  absl::StatusOr<std::unique_ptr<Work>> StartAllReduceShards(ShardedTensor partials, ReduceOp op,
                                                             absl::Time deadline) override {
    return Later(operations_.AllReduceShards(partials, op, deadline));
  }
  absl::StatusOr<std::unique_ptr<Work>> StartBroadcast(Tensor buffer, int root, absl::Time deadline) override {
    return Later(operations_.Broadcast(buffer, root, deadline));
  }
  absl::StatusOr<std::unique_ptr<Work>> StartAllGather(ConstTensor send, Tensor receive, absl::Time deadline) override {
    return Later(operations_.AllGather(send, receive, deadline));
  }
  absl::StatusOr<std::unique_ptr<Work>> StartReduceScatter(Tensor send, Tensor receive, ReduceOp op,
                                                           absl::Time deadline) override {
    return Later(operations_.ReduceScatter(send, receive, op, deadline));
  }
  absl::StatusOr<std::unique_ptr<Work>> StartBarrier(absl::Time deadline) override {
    return Later(operations_.Barrier(deadline));
  }

  absl::StatusOr<std::unique_ptr<Window>> CreateWindow(int64_t bytes, absl::Time deadline) override {
    if (bytes <= 0) return absl::InvalidArgumentError(absl::StrCat("a window of ", bytes, " bytes: must be more than 0"));
    MUSTER_RETURN_IF_ERROR(WaitForStarted(MonotonicDeadline(deadline)));
    absl::StatusOr<std::unique_ptr<Window>> window = CreateSharedWindow(home_, next_window_++, bytes, deadline);
    if (!window.ok()) ReportFailure();
    return window;
  }

  void Abort(absl::Status reason) override {
    member_->Abort(reason);
    if (link_ == nullptr || reported_.exchange(true)) return;
    link_->ReportBlame(static_cast<uint32_t>(rank()), v1::AbortReason::kAborted, 0, std::string(reason.message()));
  }

 private:
  absl::Status Now(const absl::StatusOr<Operation>& operation) {
    if (!operation.ok()) return operation.status();
    MUSTER_RETURN_IF_ERROR(WaitForStarted(operation->deadline));
    return Run(*operation, nullptr);
  }

  absl::StatusOr<std::unique_ptr<Work>> Later(const absl::StatusOr<Operation>& operation) {
    if (!operation.ok()) return operation.status();
    return progress_.Start(*operation);
  }

  absl::Status Run(const Operation& operation, const std::atomic<int>* callers_inside) {
    absl::Status status = RunCollective(*member_, operation, callers_inside);
    if (!status.ok()) ReportFailure();
    return status;
  }

  absl::Status WaitForStarted(int64_t deadline) {
    if (progress_.IsIdle() || progress_.WaitUntilIdle(deadline)) return absl::OkStatus();
    // Running out of order is not possible, and the others wait for this rank: over for all.
    v1::RaiseAbort(control_, v1::PackAbort(v1::AbortReason::kDeadline, v1::kNoRank, 0));
    return absl::DeadlineExceededError("operations started before this call had not finished when its deadline passed");
  }

  // Called by whoever runs operations at the moment; the agent hears of the first failure only.
  void ReportFailure() {
    const std::optional<Failure>& failure = member_->failure();
    if (!failure.has_value() || link_ == nullptr || reported_.exchange(true)) return;
    link_->ReportBlame(failure->rank, failure->reason, member_->op_seq(), std::string(failure->status.message()));
  }

  const uint64_t generation_;
  v1::ControlHeader* const control_;
  NodeLink* const link_;
  const std::shared_ptr<Member> member_;
  const std::shared_ptr<WindowHome> home_;
  Operations operations_;
  uint32_t next_window_ = 0;
  std::atomic<bool> reported_{false};
  Progress progress_;  // last: its destructor lets started operations finish, which use all of the above
};

absl::Status Check(const NativeOptions& options) {
  const v1::ControlHeader* control = options.control;
  if (control == nullptr) return absl::InvalidArgumentError("no control memory");
  if (control->magic != v1::kControlMagic || control->version != v1::kControlVersion) {
    return absl::InvalidArgumentError(absl::StrCat("control memory of version ", control->version, ", this library speaks ",
                                                   v1::kControlVersion, ": agent and program must be of one muster version"));
  }
  if (static_cast<int>(control->local_size) != options.world_size || options.rank != options.local_rank) {
    return absl::UnimplementedError(absl::StrCat("world of ", options.world_size, " ranks, ", control->local_size,
                                                 " of them on this node: the native backend runs on one node only"));
  }
  if (options.rank < 0 || options.rank >= options.world_size) {
    return absl::InvalidArgumentError(absl::StrCat("rank ", options.rank, " in a world of ", options.world_size));
  }
  if (options.link == nullptr && options.world_size > 1) return absl::InvalidArgumentError("no link to the node's agent");
  // The staged algorithms cut a buffer into a cache line for each rank or row.
  const uint32_t staging_min = 64 * std::max<uint32_t>(control->local_size, 2 * 13);
  if (control->staging_bytes < staging_min) {
    return absl::InvalidArgumentError(
        absl::StrCat("staging buffers of ", control->staging_bytes, " bytes, at least ", staging_min, " are needed"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> CreateNativeCommunicator(NativeOptions options) {
  MUSTER_RETURN_IF_ERROR(Check(options));
  return std::make_unique<NativeCommunicator>(options);
}

}  // namespace muster
