// The collectives of a Communicator whose backend runs Operations: each call is checked, and then run or queued by the backend.
#ifndef MUSTER_RUNTIME_BACKEND_SHARED_QUEUED_COMMUNICATOR_H_
#define MUSTER_RUNTIME_BACKEND_SHARED_QUEUED_COMMUNICATOR_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/communicator.h"
#include "runtime/backend/shared/operations.h"

namespace muster {

// A `Backend` derives from this and has, called with what is right or with what is wrong with the arguments,
//   absl::Status Now(const absl::StatusOr<Operation>&)                             runs it in the caller's turn
//   absl::StatusOr<std::unique_ptr<Work>> Later(const absl::StatusOr<Operation>&)  queues it
// A template, not virtual: the smallest operation is short enough that another call would show.
template <typename Backend>
class QueuedCommunicator : public Communicator {
 public:
  absl::Status AllReduce(Tensor buffer, ReduceOp op, absl::Time deadline) final {
    return backend().Now(operations_.AllReduce(buffer, op, deadline));
  }
  absl::Status AllReduceShards(ShardedTensor partials, ReduceOp op, absl::Time deadline) final {
    return backend().Now(operations_.AllReduceShards(partials, op, deadline));
  }
  absl::Status Broadcast(Tensor buffer, int root, absl::Time deadline) final {
    return backend().Now(operations_.Broadcast(buffer, root, deadline));
  }
  absl::Status AllGather(ConstTensor send, Tensor receive, absl::Time deadline) final {
    return backend().Now(operations_.AllGather(send, receive, deadline));
  }
  absl::Status ReduceScatter(Tensor send, Tensor receive, ReduceOp op, absl::Time deadline) final {
    return backend().Now(operations_.ReduceScatter(send, receive, op, deadline));
  }
  absl::Status Barrier(absl::Time deadline) final { return backend().Now(operations_.Barrier(deadline)); }

  absl::StatusOr<std::unique_ptr<Work>> StartAllReduce(Tensor buffer, ReduceOp op, absl::Time deadline) final {
    return backend().Later(operations_.AllReduce(buffer, op, deadline));
  }
  absl::StatusOr<std::unique_ptr<Work>> StartAllReduceShards(ShardedTensor partials, ReduceOp op, absl::Time deadline) final {
    return backend().Later(operations_.AllReduceShards(partials, op, deadline));
  }
  absl::StatusOr<std::unique_ptr<Work>> StartBroadcast(Tensor buffer, int root, absl::Time deadline) final {
    return backend().Later(operations_.Broadcast(buffer, root, deadline));
  }
  absl::StatusOr<std::unique_ptr<Work>> StartAllGather(ConstTensor send, Tensor receive, absl::Time deadline) final {
    return backend().Later(operations_.AllGather(send, receive, deadline));
  }
  absl::StatusOr<std::unique_ptr<Work>> StartReduceScatter(Tensor send, Tensor receive, ReduceOp op,
                                                           absl::Time deadline) final {
    return backend().Later(operations_.ReduceScatter(send, receive, op, deadline));
  }
  absl::StatusOr<std::unique_ptr<Work>> StartBarrier(absl::Time deadline) final {
    return backend().Later(operations_.Barrier(deadline));
  }

 protected:
  QueuedCommunicator(int rank, int world_size) : operations_(rank, world_size) {}
  Operations& operations() { return operations_; }
  const Operations& operations() const { return operations_; }

 private:
  Backend& backend() { return static_cast<Backend&>(*this); }

  Operations operations_;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_SHARED_QUEUED_COMMUNICATOR_H_
