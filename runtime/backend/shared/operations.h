// From the arguments of a Communicator call to an Operation, or to what is wrong with them.
#ifndef MUSTER_RUNTIME_BACKEND_SHARED_OPERATIONS_H_
#define MUSTER_RUNTIME_BACKEND_SHARED_OPERATIONS_H_

#include <map>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/communicator.h"
#include "runtime/shm/operation.h"

namespace muster {

// One thread at a time. All errors are InvalidArgument. The operations borrow the buffers and this object's plans.
class Operations {
 public:
  Operations(int rank, int world_size) : rank_(rank), world_size_(world_size), ranks_leaves_(Leaves::ForRanks(world_size)) {}

  absl::StatusOr<Operation> AllReduce(Tensor buffer, ReduceOp op, absl::Time deadline);
  absl::StatusOr<Operation> AllReduceShards(ShardedTensor partials, ReduceOp op, absl::Time deadline);
  absl::StatusOr<Operation> Broadcast(Tensor buffer, int root, absl::Time deadline);
  absl::StatusOr<Operation> AllGather(ConstTensor send, Tensor receive, absl::Time deadline);
  absl::StatusOr<Operation> ReduceScatter(ConstTensor send, Tensor receive, ReduceOp op, absl::Time deadline);
  Operation Barrier(absl::Time deadline);

  // The bytes of `operation`'s buffers on this rank.
  int64_t InputBytes(const Operation& operation) const;
  int64_t OutputBytes(const Operation& operation) const;

 private:
  const Leaves& LeavesOf(int shards);

  const int rank_;
  const int world_size_;
  const Leaves ranks_leaves_;
  std::map<int, Leaves> shard_leaves_;  // by number of shards; never erased, so addresses stay
};

// Has `runner` move the data of `operation`: calls AllReduce (also of shards), ReduceScatter, Broadcast or AllGather, each an
// absl::Status(const Operation&). Operations of other kinds move none.
template <typename Runner>
absl::Status MoveData(Runner& runner, const Operation& operation) {
  switch (operation.what.kind) {
    case v1::OpKind::kAllReduce:
    case v1::OpKind::kAllReduceShards:
      return runner.AllReduce(operation);
    case v1::OpKind::kReduceScatter:
      return runner.ReduceScatter(operation);
    case v1::OpKind::kBroadcast:
      return runner.Broadcast(operation);
    case v1::OpKind::kAllGather:
      return runner.AllGather(operation);
    case v1::OpKind::kBarrier:
    case v1::OpKind::kCreateWindow:
    case v1::OpKind::kSplit:
    case v1::OpKind::kNone:
      break;
  }
  return absl::OkStatus();
}

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_SHARED_OPERATIONS_H_
