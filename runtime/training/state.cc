#include "runtime/training/state.h"

#include <cstddef>
#include <utility>

#include "muster/tensor.h"
#include "runtime/base/status.h"

namespace muster {

absl::StatusOr<std::unique_ptr<TrainingState>> TrainingState::Create(Place& place, int world_size,
                                                                     std::span<const int64_t> counts, int moments,
                                                                     uint64_t random_state) {
  std::unique_ptr<TrainingState> state(new TrainingState(place));
  for (const int64_t count : counts) {
    state->counts_.push_back(count);
    state->value_offsets_.push_back(state->section_floats_);
    state->section_floats_ += AlignUp(count);
  }
  const int64_t alignment_bytes = kTensorAlignment * SizeOf(DataType::kFloat32);
  int64_t head_bytes = static_cast<int64_t>(sizeof(StateHeader)) + world_size * SizeOf(DataType::kInt64);
  head_bytes = (head_bytes + alignment_bytes - 1) / alignment_bytes * alignment_bytes;
  const int64_t floats = (1 + moments) * state->section_floats_;
  for (int block = 0; block < 2; ++block) {
    MUSTER_ASSIGN_OR_RETURN(state->blocks_[block], place.MakeState(head_bytes, floats));
    StateHeader header;
    header.ranks = static_cast<uint32_t>(world_size);
    header.bytes = static_cast<uint64_t>(head_bytes + floats * SizeOf(DataType::kFloat32));
    header.moments = static_cast<uint32_t>(moments);
    header.random_state = random_state;
    state->header(block) = header;
  }
  return state;
}

std::span<int64_t> TrainingState::rank_samples(int block) const {
  auto* first = reinterpret_cast<int64_t*>(static_cast<std::byte*>(blocks_[block]->head()) + sizeof(StateHeader));
  return {first, header(block).ranks};
}

absl::Status TrainingState::Fetch(int block, int section, int32_t parameter) const {
  return blocks_[block]->Fetch(section * section_floats_ + value_offsets_[parameter], counts_[parameter]);
}

absl::Status TrainingState::Spread(int block, int64_t sections, absl::Time deadline) {
  return place_.Spread(*blocks_[block], sections * section_floats_, deadline);
}

}  // namespace muster
