// Ranks that can run collectives together, for one generation.
#ifndef MUSTER_COMMUNICATOR_H_
#define MUSTER_COMMUNICATOR_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/tensor.h"
#include "muster/window.h"
#include "muster/work.h"

namespace muster {

// Sums over virtual shards, whose result is the same at every world size: `shards` leaves, of which rank r owns
// [r*shards/P, (r+1)*shards/P). A rank adds its own shards along the canonical tree into one partial for each maximal aligned
// subtree it owns, and the collective adds the partials along the rest of the tree. With 16-bit floats the caller's own partials
// are rounded, and how many roundings there are depends on the world size: use float32 where the bits must not.
struct ShardedTensor {
  void* data = nullptr;      // partial i at data + i*stride_bytes, in shard order
  int64_t count = 0;         // elements in one partial
  int64_t stride_bytes = 0;  // a multiple of 64; at least count*SizeOf(type)
  DataType type = DataType::kFloat32;
  int32_t shards = 0;  // leaves of the whole tree, world_size <= shards <= kShardsMax, equal on all ranks
};
inline constexpr int kShardsMax = 4096;

class DeviceCollectives;

// What a communicator's backend can do beyond the required methods; constant over its life, but for membership_is_fixed and
// aborts_between_polls, which a failure can make true.
struct Capabilities {
  const char* backend = "";  // "native", "nccl", "mpi"
  bool windows_are_zero_copy = false;
  // Sums follow the tree of ReduceOp (with a `device`: those whose buffers are in host memory on all ranks); else they are only equal on
  // all ranks, and repeatable with buffers in the same places.
  bool bits_follow_canonical_tree = false;
  bool membership_is_fixed =
      false;  // after an error this process cannot be a member again: it has to end, and the job restarts
  bool aborts_between_polls = false;       // a failed call's buffers may still be written to until the process ends
  bool rounds_16_bit_at_each_hop = false;  // sums of 16-bit floats in device memory; in host memory they are rounded once
  DeviceCollectives* device = nullptr;     // collectives on a GPU's memory (muster/device.h); null: host memory only
};

// For Communicator::Split: this rank takes part in the call and becomes a member of nothing.
inline constexpr int kNoColor = -1;

// Every rank makes the same calls in the same order, from one thread at a time; only Abort() may come from any thread.
// A blocking call runs in the calling thread, after everything that was started before it. Start... queues the operation to the
// communicator's one progress thread and returns at once; queued operations run in the order queued.
//
// After the first error the communicator is broken: every later call returns that error, buffers hold unspecified values, and
// the next generation gives a new communicator. Exceptions are an InvalidArgument found before anything was sent, and
// ResourceExhausted, which every rank gets from the same call.
//
// A lost rank, a lost agent and the end of the generation break every communicator of the generation: calls that wait in any of them
// end. So does, for ranks on its node, an error of the communicator of all ranks. Any other error of a communicator made by Split (a
// deadline, Abort, calls that differ, a rank that has destroyed it) breaks that one alone, neither the one it was made of nor those
// made of it.
//
// Errors name ranks by their number in the job, Session::rank(), in whichever communicator they happen.
//
// Errors common to all methods:
//   InvalidArgument    a null buffer, a negative count, a root out of range, a type that does not fit the op; also a call that
//                      differs from the other ranks' call: the message names the odd rank and both calls
//   Unavailable        a peer is lost or has left; the message names it
//   DeadlineExceeded   the deadline passed; the message names a rank that had not arrived
//   Aborted            Abort() was called, or this generation is over
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  virtual int rank() const = 0;
  virtual int world_size() const = 0;
  virtual uint64_t generation() const = 0;
  virtual const Capabilities& capabilities() const = 0;

  // Replaces `buffer` on every rank by the element-wise `op` over all ranks.
  // Shape: same count and type on every rank, in place.
  virtual absl::Status AllReduce(Tensor buffer, ReduceOp op, absl::Time deadline = absl::InfiniteFuture()) = 0;

  // Sums (or averages, ...) all shards of all ranks; every rank finds the result in its partial 0. The other partials hold
  // unspecified values afterwards. kAvg divides by `shards`.
  // Shape: same count, type, shards and stride on every rank; OwnedPartials(shards, P, rank).size() partials on each.
  virtual absl::Status AllReduceShards(ShardedTensor partials, ReduceOp op, absl::Time deadline = absl::InfiniteFuture()) = 0;

  // Copies `buffer` of rank `root` to all ranks.
  virtual absl::Status Broadcast(Tensor buffer, int root, absl::Time deadline = absl::InfiniteFuture()) = 0;

  // Concatenates `send` of all ranks, in rank order, into `receive` on every rank.
  // Shape: receive.count = P * send.count. `send` may be this rank's own part of `receive`; otherwise they must not overlap.
  virtual absl::Status AllGather(ConstTensor send, Tensor receive, absl::Time deadline = absl::InfiniteFuture()) = 0;

  // Reduces `send` over all ranks and leaves part r of the result in `receive` of rank r.
  // Shape: send.count = P * receive.count. `receive` may be this rank's own part of `send`; otherwise they must not overlap.
  // `send` holds unspecified values afterwards.
  virtual absl::Status ReduceScatter(Tensor send, Tensor receive, ReduceOp op,
                                     absl::Time deadline = absl::InfiniteFuture()) = 0;

  // Returns when every rank has called it.
  virtual absl::Status Barrier(absl::Time deadline = absl::InfiniteFuture()) = 0;

  // The same, queued. Errors found before queueing are returned at once, all others by Work::Wait.
  virtual absl::StatusOr<std::unique_ptr<Work>> StartAllReduce(Tensor buffer, ReduceOp op,
                                                               absl::Time deadline = absl::InfiniteFuture()) = 0;
  virtual absl::StatusOr<std::unique_ptr<Work>> StartAllReduceShards(ShardedTensor partials, ReduceOp op,
                                                                     absl::Time deadline = absl::InfiniteFuture()) = 0;
  virtual absl::StatusOr<std::unique_ptr<Work>> StartBroadcast(Tensor buffer, int root,
                                                               absl::Time deadline = absl::InfiniteFuture()) = 0;
  virtual absl::StatusOr<std::unique_ptr<Work>> StartAllGather(ConstTensor send, Tensor receive,
                                                               absl::Time deadline = absl::InfiniteFuture()) = 0;
  virtual absl::StatusOr<std::unique_ptr<Work>> StartReduceScatter(Tensor send, Tensor receive, ReduceOp op,
                                                                   absl::Time deadline = absl::InfiniteFuture()) = 0;
  virtual absl::StatusOr<std::unique_ptr<Work>> StartBarrier(absl::Time deadline = absl::InfiniteFuture()) = 0;

  // Collective. Makes shared memory of `bytes` (> 0, equal on all ranks) on every rank, mapped by all members.
  // Errors: ResourceExhausted when the memory limit does not allow it; the message names the limit and where it is set.
  virtual absl::StatusOr<std::unique_ptr<Window>> CreateWindow(int64_t bytes, absl::Time deadline = absl::InfiniteFuture()) = 0;

  // Collective over this communicator. The ranks that give the same `color` (0 or more) form a communicator of their own, ordered by
  // `key`, where keys are equal by their rank here. Null for kNoColor.
  //
  // What it returns has this generation and these capabilities, and numbers its ranks from 0. Sums follow the tree over its own ranks.
  // Windows serve the communicator that made them; elsewhere they are memory like any other.
  // Threads: each communicator belongs to one thread at a time, and several may be used at once. Two that have ranks in common must not
  // wait for each other crosswise: if one thread uses both, all ranks use them in the same order.
  // Owner: the caller. It may outlive this communicator, not the session. Destroy it after its windows; the order among ranks is
  // free, and a rank that still waits for one that has destroyed it gets Unavailable.
  // Cost: native, memory of some 840 KiB a rank and, with ranks on several nodes, connections between them. Best where the ranks of a
  // node follow each other: those that do not exchange over TCP though they share memory.
  // Errors: InvalidArgument (another negative color), on this rank only. Each of the following on every rank of this communicator,
  // which stays usable: ResourceExhausted (some rank has as many of them as its backend allows: native 64 at a time, mpi 256
  // in a process's life; or no memory or descriptors for another), Unavailable and DeadlineExceeded (ranks on two nodes did not come to be connected), FailedPrecondition
  // (mpi: the library is not for several threads).
  virtual absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int key,
                                                              absl::Time deadline = absl::InfiniteFuture()) = 0;

  // Ends every blocked and later call on this rank, and on its peers, with Aborted and `reason`. Any thread; returns at once.
  virtual void Abort(absl::Status reason) = 0;

 protected:
  Communicator() = default;
};

}  // namespace muster

#endif  // MUSTER_COMMUNICATOR_H_
