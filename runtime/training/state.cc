#include "runtime/training/state.h"

#include <cstddef>
#include <utility>

#include "runtime/base/status.h"

namespace muster {

absl::StatusOr<std::unique_ptr<TrainingState>> TrainingState::Create(Communicator& communicator,
                                                                     std::span<const int64_t> counts, int moments,
                                                                     uint64_t random_state) {
  std::unique_ptr<TrainingState> state(new TrainingState);
  for (const int64_t count : counts) {
    state->value_offsets_.push_back(state->section_floats_);
    state->section_floats_ += AlignUp(count);
  }
  const int64_t alignment_bytes = kTensorAlignment * SizeOf(DataType::kFloat32);
  const int64_t head_bytes = static_cast<int64_t>(sizeof(StateHeader)) + communicator.world_size() * SizeOf(DataType::kInt64);
  state->values_offset_bytes_ = (head_bytes + alignment_bytes - 1) / alignment_bytes * alignment_bytes;
  const int64_t bytes = state->values_offset_bytes_ + (1 + moments) * state->section_floats_ * SizeOf(DataType::kFloat32);
  for (int block = 0; block < 2; ++block) {
    MUSTER_ASSIGN_OR_RETURN(state->windows_[block], communicator.CreateWindow(bytes));
    StateHeader header;
    header.ranks = static_cast<uint32_t>(communicator.world_size());
    header.bytes = static_cast<uint64_t>(bytes);
    header.moments = static_cast<uint32_t>(moments);
    header.random_state = random_state;
    state->header(block) = header;
  }
  return state;
}

std::span<int64_t> TrainingState::rank_samples(int block) const {
  auto* first = reinterpret_cast<int64_t*>(static_cast<std::byte*>(windows_[block]->data()) + sizeof(StateHeader));
  return {first, header(block).ranks};
}

std::span<const uint8_t> TrainingState::bytes(int block) const {
  return {static_cast<const uint8_t*>(windows_[block]->data()), header(block).bytes};
}

float* TrainingState::floats(int block) const {
  return reinterpret_cast<float*>(static_cast<std::byte*>(windows_[block]->data()) + values_offset_bytes_);
}

}  // namespace muster
