#include "runtime/collectives/lane_exchange.h"

#include <algorithm>

#include "runtime/base/status.h"

namespace muster {
namespace {

int64_t InLines(int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

LaneExchange::LaneExchange(Member& member, Network& network, const WirePlan& plan, const NodePartials* partials, DataType type,
                           ReduceOp op)
    : member_(member),
      network_(network),
      plan_(plan),
      partials_(partials),
      type_(type),
      op_(op),
      op_seq_(member.op_seq()),
      slots_(static_cast<size_t>(kInFlight + 1)) {
  const WireCall& call = plan.call();
  const int64_t elements = plan.piece_elements_max();
  own_stride_ = InLines(kind_rows(me()) * elements * call.wire_bytes);
  up_stride_ = InLines(*std::max_element(call.rows.begin(), call.rows.end()) * elements * call.wire_bytes);
  result_stride_ = InLines(elements * call.element_bytes);
  slot_bytes_ = nodes() * (own_stride_ + up_stride_ + result_stride_);
  memory_ = network.memory.Take(slot_bytes_ * static_cast<int64_t>(slots_.size()) + 64);
  memory_ += (64 - reinterpret_cast<uintptr_t>(memory_) % 64) % 64;
  const auto n = static_cast<size_t>(nodes());
  network.transfers.assign(4 * n * slots_.size(), {});
  for (size_t i = 0; i < slots_.size(); ++i) {
    MeshTransfer* const first = network.transfers.data() + 4 * n * i;
    slots_[i].up_sent = first;
    slots_[i].up_received = first + n;
    slots_[i].down_sent = first + 2 * n;
    slots_[i].down_received = first + 3 * n;
  }
  network.PostCalls(member);
}

char* LaneExchange::OwnBuffer(int64_t chunk, int owner) const {
  return memory_ + chunk % (kInFlight + 1) * slot_bytes_ + owner * own_stride_;
}
char* LaneExchange::UpBuffer(int64_t chunk, int node) const {
  return memory_ + chunk % (kInFlight + 1) * slot_bytes_ + nodes() * own_stride_ + node * up_stride_;
}
char* LaneExchange::ResultBuffer(int64_t chunk, int owner) const {
  return memory_ + chunk % (kInFlight + 1) * slot_bytes_ + nodes() * (own_stride_ + up_stride_) + owner * result_stride_;
}

// Without a reduction what a node gives to its own piece is the result.
char* LaneExchange::Own(int64_t chunk, int owner) {
  return !reduces() && owner == me() ? ResultBuffer(chunk, owner) : OwnBuffer(chunk, owner);
}

int64_t LaneExchange::RowBytes(int64_t chunk, int owner) const {
  return plan_.PieceElements(chunk, member_.rank(), owner) * plan_.call().wire_bytes;
}

// The root of a broadcast gives what it wants itself.
const char* LaneExchange::Result(int64_t chunk, int owner) const {
  const bool given = plan_.call().kind == Exchange::kBroadcast && me() == plan_.call().root_node;
  return given ? OwnBuffer(chunk, owner) : ResultBuffer(chunk, owner);
}

void LaneExchange::Start(int64_t chunk) {
  Slot& slot = SlotOf(chunk);
  slot.chunk = chunk;
  slot.posted = slot.reduced = slot.receives_posted = false;
  for (int n = 0; n < nodes(); ++n) {
    // What there is to do is not done; a message of no bytes is not sent.
    slot.up_sent[n] = {0, !plan_.SendsUp(me(), n) || plan_.UpBytes(chunk, member_.rank(), me(), n) == 0};
    slot.up_received[n] = {0, !plan_.SendsUp(n, me()) || plan_.UpBytes(chunk, member_.rank(), n, me()) == 0};
    slot.down_sent[n] = {0, !plan_.SendsDown(me(), n) || plan_.DownBytes(chunk, member_.rank(), me()) == 0};
    slot.down_received[n] = {0, !plan_.SendsDown(n, me()) || plan_.DownBytes(chunk, member_.rank(), n) == 0};
  }
  if (calls_agree_) PostReceives(slot);
}

void LaneExchange::PostReceives(Slot& slot) {
  slot.receives_posted = true;
  const int lane = member_.rank();
  for (int n = 0; n < nodes(); ++n) {
    if (n == me()) continue;
    const int peer = network_.PeerOn(n, member_);
    if (!slot.up_received[n].done) {
      // Where nothing is reduced, what comes up is the result.
      char* const to = reduces() ? UpBuffer(slot.chunk, n) : ResultBuffer(slot.chunk, me());
      network_.mesh()->Receive(peer, UpTag(slot.chunk), to, plan_.UpBytes(slot.chunk, lane, n, me()), &slot.up_received[n]);
    }
    if (!slot.down_received[n].done) {
      network_.mesh()->Receive(peer, DownTag(slot.chunk), ResultBuffer(slot.chunk, n), plan_.DownBytes(slot.chunk, lane, n),
                               &slot.down_received[n]);
    }
  }
}

void LaneExchange::Post(int64_t chunk) {
  Slot& slot = SlotOf(chunk);
  slot.posted = true;
  for (int n = 0; n < nodes(); ++n) {
    if (slot.up_sent[n].done) continue;
    network_.mesh()->Send(network_.PeerOn(n, member_), UpTag(chunk), Own(chunk, n),
                          plan_.UpBytes(chunk, member_.rank(), me(), n), &slot.up_sent[n]);
  }
  Advance();
}

// Whether this node can make the result of its own piece.
bool LaneExchange::CanReduce(const Slot& slot) const {
  if (slot.chunk < 0 || !slot.posted || slot.reduced || !slot.receives_posted) return false;
  for (int n = 0; n < nodes(); ++n) {
    if (!slot.up_received[n].done) return false;
  }
  return true;
}

bool LaneExchange::CanAdvance() const {
  return std::any_of(slots_.begin(), slots_.end(), [this](const Slot& slot) { return CanReduce(slot); });
}

// The oldest chunk first: it is waited for.
void LaneExchange::Advance() {
  for (;;) {
    Slot* oldest = nullptr;
    for (Slot& slot : slots_) {
      if (CanReduce(slot) && (oldest == nullptr || slot.chunk < oldest->chunk)) oldest = &slot;
    }
    if (oldest == nullptr) return;
    SendResult(*oldest);
  }
}

void LaneExchange::SendResult(Slot& slot) {
  slot.reduced = true;
  const int64_t elements = plan_.PieceElements(slot.chunk, member_.rank(), me());
  if (reduces() && elements > 0) {
    std::vector<const void*> sources;
    for (int n = 0; n < nodes(); ++n) {
      const char* const first = n == me() ? OwnBuffer(slot.chunk, me()) : UpBuffer(slot.chunk, n);
      for (int64_t row = 0; row < kind_rows(n); ++row) sources.push_back(first + row * elements * plan_.call().wire_bytes);
    }
    partials_->ReduceAll(sources, elements, type_, op_, ResultBuffer(slot.chunk, me()));
  }
  for (int n = 0; n < nodes(); ++n) {
    if (slot.down_sent[n].done) continue;
    network_.mesh()->Send(network_.PeerOn(n, member_), DownTag(slot.chunk), ResultBuffer(slot.chunk, me()),
                          plan_.DownBytes(slot.chunk, member_.rank(), me()), &slot.down_sent[n]);
  }
}

bool LaneExchange::IsFinished(const Slot& slot) const {
  if (!slot.reduced) return false;
  for (int n = 0; n < nodes(); ++n) {
    if (!slot.up_sent[n].done || !slot.down_sent[n].done || !slot.down_received[n].done) return false;
  }
  return true;
}

int LaneExchange::Awaited(const Slot& slot) const {
  for (int n = 0; n < nodes(); ++n) {
    if (!slot.up_received[n].done || !slot.down_received[n].done) return network_.PeerOn(n, member_);
  }
  for (int n = 0; n < nodes(); ++n) {
    if (!slot.up_sent[n].done || !slot.down_sent[n].done) return network_.PeerOn(n, member_);
  }
  return -1;
}

absl::Status LaneExchange::AwaitCalls() {
  MUSTER_RETURN_IF_ERROR(network_.Progress(
      member_, [this] { return network_.CallsAreHere(); }, [this] { return network_.AwaitedCalls(member_); }));
  MUSTER_RETURN_IF_ERROR(network_.CheckCalls(member_));
  calls_agree_ = true;
  std::vector<Slot*> started;
  for (Slot& slot : slots_) {
    if (slot.chunk >= 0) started.push_back(&slot);
  }
  std::sort(started.begin(), started.end(), [](const Slot* a, const Slot* b) { return a->chunk < b->chunk; });
  for (Slot* slot : started) PostReceives(*slot);
  return absl::OkStatus();
}

absl::Status LaneExchange::Finish(int64_t chunk) {
  if (!calls_agree_) MUSTER_RETURN_IF_ERROR(AwaitCalls());
  const Slot& slot = SlotOf(chunk);
  for (;;) {
    Advance();
    if (IsFinished(slot)) return absl::OkStatus();
    MUSTER_RETURN_IF_ERROR(network_.Progress(
        member_, [&, this] { return IsFinished(slot) || CanAdvance(); }, [&, this] { return Awaited(slot); }));
  }
}

absl::Status LaneExchange::Poll() {
  const bool idle = std::all_of(slots_.begin(), slots_.end(), [this](const Slot& slot) {
    return slot.chunk < 0 || (slot.posted && IsFinished(slot));
  });
  if (idle && calls_agree_) return absl::OkStatus();
  MUSTER_RETURN_IF_ERROR(network_.Poll(member_));
  if (!calls_agree_ && network_.CallsAreHere()) MUSTER_RETURN_IF_ERROR(AwaitCalls());
  Advance();
  return absl::OkStatus();
}

}  // namespace muster
