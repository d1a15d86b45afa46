#include "runtime/shm/node_memory.h"

#include <numeric>

#include "proto/muster/v1/control_wake.h"

namespace muster {
namespace {

std::vector<uint32_t> EverySeat(const v1::ControlHeader* generation) {
  std::vector<uint32_t> seats(generation->local_size);
  std::iota(seats.begin(), seats.end(), 0u);
  return seats;
}

}  // namespace

NodeMemory::NodeMemory(v1::ControlHeader* generation) : NodeMemory(generation, generation, EverySeat(generation)) {}

NodeMemory::NodeMemory(v1::ControlHeader* own, v1::ControlHeader* generation, std::vector<uint32_t> seats)
    : own_(own),
      generation_(generation),
      areas_(&v1::RankAreaOf(own, 0)),
      generation_areas_(&v1::RankAreaOf(generation, 0)),
      seats_(std::move(seats)) {}

void NodeMemory::Ring(int local_rank) const { v1::RingDoorbell(seat_area(local_rank)); }

void NodeMemory::Raise(uint64_t word) const {
  if (is_of_all_ranks() || v1::EndsGeneration(v1::AbortReasonOf(word))) v1::RaiseAbort(generation_, word);
  if (is_of_all_ranks()) return;
  uint64_t none = v1::kNoAbort;
  if (!own_->abort_word.compare_exchange_strong(none, word, std::memory_order_seq_cst)) return;
  for (int r = 0; r < static_cast<int>(seats_.size()); ++r) Ring(r);
}

void NodeMemory::MarkLeft(int local_rank) const {
  areas_[local_rank].left.exchange(1, std::memory_order_seq_cst);
  for (int r = 0; r < static_cast<int>(seats_.size()); ++r) Ring(r);
}

}  // namespace muster
