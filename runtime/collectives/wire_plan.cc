#include "runtime/collectives/wire_plan.h"

#include <algorithm>
#include <utility>

namespace muster {
namespace {

// A lane's part of a chunk, over all owners: large enough that a message costs little beside its bytes, small enough that some
// in flight stay in the cache.
constexpr int64_t kSegmentBytesMax = 1 << 20;
// Smaller pieces would cost more in system calls than a deeper pipeline gains.
constexpr int64_t kPieceBytesMin = 16 * 1024;
// An operation is cut into this many chunks at least, as long as pieces do not get too small: the first chunk's way up and the
// last one's way down overlap with nothing.
constexpr int64_t kChunksMin = 16;

int64_t PieceBytes(int64_t lane_bytes, int64_t owners) {
  const int64_t most = std::max(kSegmentBytesMax / owners, kPieceBytesMin);
  return std::clamp(lane_bytes / (kChunksMin * owners), kPieceBytesMin, most);
}

}  // namespace

WirePlan::WirePlan(const Nodes& nodes, WireCall call) : nodes_(nodes), call_(std::move(call)) {
  int ranks_max = 1;
  for (int n = 0; n < nodes_.count(); ++n) {
    if (call_.kind != Exchange::kBroadcast || n != call_.root_node) owners_.push_back(n);
    ranks_max = std::max(ranks_max, nodes_.ranks(n));
  }
  const int64_t owners = static_cast<int64_t>(owners_.size());
  const int64_t lanes = nodes_.lanes;
  const int64_t bytes = call_.count * call_.element_bytes;
  if (by_parts()) {
    // The largest node's pieces have the size wanted.
    const int64_t piece_bytes = PieceBytes(bytes * ranks_max / lanes, owners);
    chunk_ = PartElements(std::max<int64_t>(piece_bytes * lanes / ranks_max / call_.element_bytes, 1), 1, call_.element_bytes);
  } else {
    const int64_t piece_bytes = PieceBytes(bytes / lanes, owners);
    chunk_ = PartElements(piece_bytes / call_.element_bytes, 1, call_.element_bytes) * lanes * owners;
  }
  chunks_ = (call_.count + chunk_ - 1) / chunk_;
  for (int owner : owners_) {
    if (chunks_ > 0) piece_max_ = std::max(piece_max_, PieceElements(0, 0, owner));
  }
}

bool WirePlan::Gives(int node, int owner) const {
  switch (call_.kind) {
    case Exchange::kAllReduce:
    case Exchange::kReduceScatter:
      return true;
    case Exchange::kAllGather:
      return node == owner;
    case Exchange::kBroadcast:
      return node == call_.root_node;
  }
  return false;
}

bool WirePlan::Wants(int node, int owner) const { return call_.kind != Exchange::kReduceScatter || node == owner; }

bool WirePlan::SendsDown(int owner, int node) const {
  if (call_.kind == Exchange::kBroadcast && (node == call_.root_node || owner == call_.root_node)) return false;
  return node != owner && Wants(node, owner);
}

int64_t WirePlan::OwnerIndex(int owner) const {
  return call_.kind == Exchange::kBroadcast && owner > call_.root_node ? owner - 1 : owner;
}

// In elements of the chunk: of the vector, or of the owner's parts of the chunk, one after another.
Range WirePlan::PieceOf(int64_t chunk, int lane, int owner) const {
  const Range whole = PartOf(call_.count, chunk_, chunk);
  if (by_parts()) {
    const int64_t elements = whole.count * nodes_.ranks(owner);
    return PartOf(elements, PartElements(elements, nodes_.lanes, call_.element_bytes), lane);
  }
  const int64_t owners = static_cast<int64_t>(owners_.size());
  const int64_t part = PartElements(whole.count, nodes_.lanes * owners, call_.element_bytes);
  return PartOf(whole.count, part, lane * owners + OwnerIndex(owner));
}

int64_t WirePlan::PieceElements(int64_t chunk, int lane, int owner) const { return PieceOf(chunk, lane, owner).count; }

void WirePlan::ForEachRun(int64_t chunk, int lane, int owner, int64_t begin, int64_t end,
                          absl::FunctionRef<void(int64_t first, int64_t count, int64_t offset)> visit) const {
  const Range whole = PartOf(call_.count, chunk_, chunk);
  const Range piece = PieceOf(chunk, lane, owner);
  end = std::min(end, piece.count);
  if (begin >= end) return;
  if (!by_parts()) return visit(whole.first + piece.first + begin, end - begin, begin);
  while (begin < end) {
    const int64_t position = piece.first + begin;
    const int64_t rank = nodes_.first_rank(owner) + position / whole.count;
    const int64_t inside = position % whole.count;
    const int64_t count = std::min(end - begin, whole.count - inside);
    visit(rank * call_.count + whole.first + inside, count, begin);
    begin += count;
  }
}

}  // namespace muster
