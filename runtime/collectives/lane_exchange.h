// One lane's part of a large operation between nodes: moves the pieces of a WirePlan, several chunks in flight.
#ifndef MUSTER_RUNTIME_COLLECTIVES_LANE_EXCHANGE_H_
#define MUSTER_RUNTIME_COLLECTIVES_LANE_EXCHANGE_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "runtime/collectives/network.h"
#include "runtime/collectives/node_partials.h"
#include "runtime/collectives/wire_plan.h"
#include "runtime/shm/member.h"

namespace muster {

// For each chunk, in order: Start, fill Own(), Post; then, at most kInFlight chunks later and before the next Start beyond that,
// Finish, after which Result() holds until the chunk after the next kInFlight is started.
//
// Nobody waits for ever: a rank posts chunk k + kInFlight only after it has finished k, whose messages it has posted before. So
// in each stream the messages of k come first, and the rank that waits for the oldest chunk of all finds everything it needs
// already posted, and its own receives too.
class LaneExchange {
 public:
  static constexpr int64_t kInFlight = 4;

  // Sends this node's calls to the peers. `plan`, and for reductions `partials`, outlive this object. `type` and `op` are those
  // of the reduction.
  LaneExchange(Member& member, Network& network, const WirePlan& plan, const NodePartials* partials, DataType type,
               ReduceOp op);

  void Start(int64_t chunk);
  // What this node gives to the piece of `owner` (WirePlan::Gives): `rows` of the node, each RowBytes() long. To be filled
  // between Start and Post.
  char* Own(int64_t chunk, int owner);
  int64_t RowBytes(int64_t chunk, int owner) const;
  void Post(int64_t chunk);

  // Waits until the chunk's results are here and all its messages are off.
  absl::Status Finish(int64_t chunk);
  // Moves what can be moved at once. Looks away when nothing is in flight: a peer that has everything may leave.
  absl::Status Poll();

  // The piece of an owner that this node wants, PieceElements() elements.
  const char* Result(int64_t chunk, int owner) const;

 private:
  // Of a chunk in flight, by node: of which owner's piece, or to and from which peer.
  struct Slot {
    int64_t chunk = -1;
    bool posted = false;
    bool reduced = false;
    bool receives_posted = false;
    MeshTransfer* up_sent = nullptr;
    MeshTransfer* up_received = nullptr;
    MeshTransfer* down_sent = nullptr;
    MeshTransfer* down_received = nullptr;
  };

  int nodes() const { return network_.nodes().count(); }
  int me() const { return network_.nodes().node; }
  bool reduces() const { return partials_ != nullptr; }
  int64_t kind_rows(int node) const { return plan_.call().rows[static_cast<size_t>(node)]; }
  MeshTag UpTag(int64_t chunk) const { return {op_seq_, static_cast<uint32_t>(1 + 2 * chunk)}; }
  MeshTag DownTag(int64_t chunk) const { return {op_seq_, static_cast<uint32_t>(2 + 2 * chunk)}; }
  Slot& SlotOf(int64_t chunk) { return slots_[static_cast<size_t>(chunk % (kInFlight + 1))]; }
  const Slot& SlotOf(int64_t chunk) const { return slots_[static_cast<size_t>(chunk % (kInFlight + 1))]; }
  char* OwnBuffer(int64_t chunk, int owner) const;
  char* UpBuffer(int64_t chunk, int node) const;
  char* ResultBuffer(int64_t chunk, int owner) const;

  void PostReceives(Slot& slot);
  bool CanReduce(const Slot& slot) const;
  bool CanAdvance() const;
  void Advance();
  void SendResult(Slot& slot);
  bool IsFinished(const Slot& slot) const;
  int Awaited(const Slot& slot) const;
  absl::Status AwaitCalls();

  Member& member_;
  Network& network_;
  const WirePlan& plan_;
  const NodePartials* const partials_;
  const DataType type_;
  const ReduceOp op_;
  const uint64_t op_seq_;
  bool calls_agree_ = false;
  int64_t own_stride_ = 0;  // bytes of one owner's piece in Own
  int64_t up_stride_ = 0;
  int64_t result_stride_ = 0;
  int64_t slot_bytes_ = 0;
  char* memory_ = nullptr;
  std::vector<Slot> slots_;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_COLLECTIVES_LANE_EXCHANGE_H_
