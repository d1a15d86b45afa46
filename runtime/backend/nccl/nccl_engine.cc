#include "runtime/backend/nccl/nccl_engine.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/backend/shared/operations.h"
#include "runtime/base/clock.h"
#include "runtime/base/status.h"
#include "runtime/shm/failure.h"

namespace muster {
namespace {

Operation Starting() {
  Operation starting;
  starting.what.kind = v1::OpKind::kNone;
  return starting;
}

absl::Time ControlDeadline(const Operation& operation) {
  if (operation.deadline == INT64_MAX) return absl::InfiniteFuture();
  return absl::Now() + absl::Nanoseconds(operation.deadline - MonotonicNanoseconds());
}

// The collectives of an operation's buffers, called on another communicator.
class OnCommunicator {
 public:
  OnCommunicator(Communicator& communicator, absl::Time deadline) : communicator_(communicator), deadline_(deadline) {}

  absl::Status AllReduce(const Operation& operation) {
    const v1::OpDescriptor& what = operation.what;
    if (what.kind == v1::OpKind::kAllReduce)
      return communicator_.AllReduce(Output(operation, what.count), operation.op(), deadline_);
    return communicator_.AllReduceShards({operation.output, what.count, operation.stride_bytes, operation.type(), what.root},
                                         operation.op(), deadline_);
  }
  absl::Status ReduceScatter(const Operation& operation) {
    const Tensor send = {const_cast<void*>(operation.input), operation.what.count, operation.type()};
    return communicator_.ReduceScatter(send, Output(operation, operation.what.count / communicator_.world_size()),
                                       operation.op(), deadline_);
  }
  absl::Status Broadcast(const Operation& operation) {
    return communicator_.Broadcast(Output(operation, operation.what.count), operation.what.root, deadline_);
  }
  absl::Status AllGather(const Operation& operation) {
    return communicator_.AllGather({operation.input, operation.what.count, operation.type()},
                                   Output(operation, operation.what.count * communicator_.world_size()), deadline_);
  }

 private:
  static Tensor Output(const Operation& operation, int64_t count) { return {operation.output, count, operation.type()}; }

  Communicator& communicator_;
  const absl::Time deadline_;
};

}  // namespace

bool NeedsHost(const Operation& operation, bool has_kernels) {
  const auto kind = operation.what.kind;
  const bool reduces =
      kind == v1::OpKind::kAllReduce || kind == v1::OpKind::kReduceScatter || kind == v1::OpKind::kAllReduceShards;
  if (!reduces) return false;
  const bool orders = operation.op() == ReduceOp::kMin || operation.op() == ReduceOp::kMax;
  return (orders && !IsInteger(operation.type())) || (kind == v1::OpKind::kAllReduceShards && !has_kernels);
}

NcclEngine::NcclEngine(const NcclOptions& options, NcclHandle& handle, NcclWatch& watch, Communicator& control)
    : options_(options),
      nccl_(*options.nccl),
      handle_(handle),
      watch_(watch),
      control_(control),
      stream_(*options.cuda, handle, watch),
      staging_(nccl_, *options.cuda, stream_, control.rank(), control.world_size(), options.scratch_bytes) {}

NcclEngine::~NcclEngine() { staging_.Close(watch_.must_end()->load()); }

absl::Status NcclEngine::Start(absl::FunctionRef<absl::Status(NcclHandle&)> make) {
  const Operation starting = Starting();
  MUSTER_RETURN_IF_ERROR(stream_.Check(options_.cuda->SetDevice(options_.device), starting));
  MUSTER_RETURN_IF_ERROR(stream_.Open(starting));
  // From here on the ranks start together, and who does not come is named.
  if (absl::Status all = control_.Barrier(absl::Now() + options_.start_patience); !all.ok())
    return ControlFailed(std::move(all));
  MUSTER_RETURN_IF_ERROR(make(handle_));
  return Await(kNcclInProgress, starting);
}

absl::Status NcclEngine::Await(int code, const Operation& operation) {
  const int64_t begin = watch_.clock().now();
  while (code == kNcclInProgress) {
    code = handle_.State();
    if (code != kNcclInProgress) break;
    MUSTER_RETURN_IF_ERROR(watch_.Look(operation, begin));
    watch_.clock().pause(watch_.clock().now() - begin);
  }
  return code == kNcclOk ? absl::OkStatus() : watch_.NcclFailed(code, operation);
}

absl::Status NcclEngine::ControlFailed(absl::Status status) {
  watch_.Break(status, /*tell=*/false);
  return status;
}

void NcclEngine::Run(const std::shared_ptr<NcclFlight>& flight) {
  static_cast<void>(options_.cuda->SetDevice(options_.device));
  const Operation& operation = flight->operation();
  flight->Begin();
  if (operation.what.kind == v1::OpKind::kNone) {
    flight->Finish(absl::OkStatus());
    return;
  }
  NcclRoute route = NcclRoute::kDevice;
  absl::Status status = watch_.is_broken() ? watch_.Settled() : Announce(*flight, &route);
  const bool has_data = operation.what.count > 0 && operation.what.kind != v1::OpKind::kCreateWindow;
  if (status.ok() && operation.what.kind == v1::OpKind::kBarrier) {
    status = watch_.AwaitIdle(operation.deadline);  // it is done when those before it are
  } else if (status.ok() && operation.what.kind == v1::OpKind::kCreateWindow && operation.input != nullptr) {
    const bool have = static_cast<const WindowRequest*>(operation.input)->have != 0;
    status = AgreeOnMemory(have, absl::StrCat("device memory for a window of ", operation.what.count, " bytes"), operation);
  } else if (status.ok() && has_data) {
    if (flight->ready != nullptr) {
      status = stream_.Check(options_.cuda->StreamWait(stream_.get(), flight->ready), operation);
    }
    if (status.ok() && route == NcclRoute::kDevice) {
      status = OnDevice(flight);
      if (status.ok()) return;  // the watch finishes it
    } else if (status.ok()) {
      status = route == NcclRoute::kNative ? OnHost(operation) : Staged(operation);
    }
  }
  watch_.GiveEvent(std::exchange(flight->ready, nullptr));
  flight->Finish(watch_.is_broken() && !status.ok() ? watch_.Settled() : status);
}

// --- What the ranks tell each other first ---

absl::Status NcclEngine::Announce(const NcclFlight& flight, NcclRoute* route) {
  const Operation& operation = flight.operation();
  const auto digest = static_cast<int64_t>(DigestOf(operation.what));
  int64_t extremes[4] = {digest, ~digest, flight.on_device ? 1 : 0, flight.by_host ? 1 : 0};
  const absl::Time deadline = ControlDeadline(operation);
  absl::Status status = control_.AllReduce(MakeTensor(extremes, 4), ReduceOp::kMax, deadline);
  if (!status.ok()) return ControlFailed(std::move(status));
  *route = extremes[2] == 0 ? NcclRoute::kNative : extremes[3] == 0 ? NcclRoute::kDevice : NcclRoute::kStaged;
  if (extremes[0] == ~extremes[1]) return absl::OkStatus();
  std::vector<v1::OpDescriptor> calls(static_cast<size_t>(control_.world_size()));
  const int64_t bytes = sizeof operation.what;
  status = control_.AllGather({&operation.what, bytes, DataType::kUint8},
                              {calls.data(), bytes * control_.world_size(), DataType::kUint8}, deadline);
  if (!status.ok()) return ControlFailed(std::move(status));
  std::vector<int> job_ranks;
  for (int rank = 0; rank < control_.world_size(); ++rank) job_ranks.push_back(JobRank(options_, rank));
  const Failure mismatch = MismatchFailure(DifferentCalls(calls, job_ranks));
  const bool first = !watch_.is_broken();
  watch_.Break(mismatch.status, /*tell=*/false);  // all have seen it
  if (first && options_.failed) options_.failed(control_, mismatch);
  return mismatch.status;
}

absl::Status NcclEngine::AgreeOnMemory(bool have, const std::string& memory, const Operation& operation) {
  int64_t lowest_without = have ? control_.world_size() : control_.rank();
  absl::Status status = control_.AllReduce(MakeTensor(&lowest_without, 1), ReduceOp::kMin, ControlDeadline(operation));
  if (!status.ok()) return ControlFailed(std::move(status));
  if (lowest_without == control_.world_size()) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("rank ", JobRank(options_, static_cast<int>(lowest_without)), " has no ", memory, ": use smaller buffers"));
}

// --- In host memory ---

// The native backend ends it as it ends its own: names who is missing, tells the agent, reaches the peers.
absl::Status NcclEngine::OnHost(const Operation& operation) {
  MUSTER_RETURN_IF_ERROR(watch_.AwaitIdle(operation.deadline));  // those before it are done first
  const absl::Time limit = absl::Now() + options_.hang_limit;
  OnCommunicator native(control_, std::min(ControlDeadline(operation), limit));
  absl::Status status = MoveData(native, operation);
  return status.ok() ? status : ControlFailed(std::move(status));
}

// --- Through the host ---

absl::Status NcclEngine::Staged(const Operation& operation) {
  if (staging_.is_open()) return staging_.Run(operation);
  // All ranks are here for the first time together. Allocating waits for what runs on the device, which must not wait for this rank.
  MUSTER_RETURN_IF_ERROR(watch_.AwaitIdle(operation.deadline));
  const bool have = staging_.Open() == kCudaOk;
  if (!have) MUSTER_RETURN_IF_ERROR(watch_.LookForFault(operation));
  absl::Status all_have = AgreeOnMemory(
      have,
      absl::StrCat(staging_.scratch_bytes(), " bytes each of pinned and device memory, through which data passes the host"),
      operation);
  if (all_have.ok()) return staging_.Run(operation);
  staging_.Close(watch_.must_end()->load());
  return all_have;
}

// --- In device memory ---

absl::Status NcclEngine::OnDevice(const std::shared_ptr<NcclFlight>& flight) {
  const Operation& operation = flight->operation();
  const bool shards = operation.what.kind == v1::OpKind::kAllReduceShards;
  const DeviceQueue queue = {options_.device, stream_.get()};
  if (shards) MUSTER_RETURN_IF_ERROR(CombineRows(operation, queue));
  MUSTER_RETURN_IF_ERROR(LaunchOnDevice(operation));
  if (shards && operation.op() == ReduceOp::kAvg) {
    const int code = options_.kernels->Divide(operation.output, operation.what.count, operation.type(),
                                              operation.leaves->plan.leaves(), queue);
    MUSTER_RETURN_IF_ERROR(stream_.Check(code, operation));
  }
  return stream_.Send(flight);
}

// The partials of this rank, along the tree over them, into the first.
absl::Status NcclEngine::CombineRows(const Operation& operation, DeviceQueue queue) {
  const int rows = operation.leaves->rows[static_cast<size_t>(control_.rank())];
  if (rows == 1) return absl::OkStatus();
  const ReducePlan plan = ReducePlan::ForLeaves(rows);
  DeviceReduce call;
  for (int row = 0; row < rows; ++row) {
    call.sources[row] = static_cast<const char*>(operation.input) + row * operation.stride_bytes;
    call.merges[row] = plan.merges()[static_cast<size_t>(row)];
  }
  call.sources_count = rows;
  call.type = operation.type();
  call.op = operation.op() == ReduceOp::kAvg ? ReduceOp::kSum : operation.op();
  call.destination = operation.output;
  call.count = operation.what.count;
  return stream_.Check(options_.kernels->Reduce(call, queue), operation);
}

absl::Status NcclEngine::LaunchOnDevice(const Operation& operation) {
  const v1::OpDescriptor& what = operation.what;
  return stream_.Launch(
      [&](NcclComm comm, CudaStream stream) {
        switch (what.kind) {
          case v1::OpKind::kAllReduce:
            return nccl_.AllReduce(operation.input, operation.output, what.count, operation.type(), operation.op(), comm,
                                   stream);
          case v1::OpKind::kAllReduceShards:
            return nccl_.AllReduce(operation.input, operation.output, what.count, operation.type(),
                                   operation.op() == ReduceOp::kAvg ? ReduceOp::kSum : operation.op(), comm, stream);
          case v1::OpKind::kReduceScatter:
            return nccl_.ReduceScatter(operation.input, operation.output, what.count / control_.world_size(), operation.type(),
                                       operation.op(), comm, stream);
          case v1::OpKind::kBroadcast:
            return nccl_.Broadcast(operation.output, operation.row_bytes(), what.root, comm, stream);
          case v1::OpKind::kAllGather:
            return nccl_.AllGather(operation.input, operation.output, operation.row_bytes(), comm, stream);
          case v1::OpKind::kBarrier:
          case v1::OpKind::kCreateWindow:
          case v1::OpKind::kSplit:
          case v1::OpKind::kNone:
            break;
        }
        return kNcclInternalError;
      },
      operation);
}

}  // namespace muster
