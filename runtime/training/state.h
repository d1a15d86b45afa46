// Everything a training step changes, twice: the state that holds and the one being written.
#ifndef MUSTER_RUNTIME_TRAINING_STATE_H_
#define MUSTER_RUNTIME_TRAINING_STATE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "muster/communicator.h"
#include "runtime/training/buckets.h"

namespace muster {

inline constexpr uint64_t kStateMagic = 0x6574617473736d75;  // "umsstate" in memory
inline constexpr uint32_t kStateVersion = 1;

// The first bytes of a state block. A block is one contiguous run of memory that holds everything: this header, the samples fed
// by each rank so far (int64), the parameters, then each moment, as float32. Every section and every tensor in it starts on a
// 64-byte boundary; bytes between them are zero. Parameters stand in order of registration.
struct StateHeader {
  uint64_t magic = kStateMagic;
  uint32_t version = kStateVersion;
  uint32_t ranks = 0;         // entries in the section of samples fed
  uint64_t bytes = 0;         // of the whole block
  int64_t step = 0;           // updates that led here
  int64_t cursor = 0;         // the place of the next step's first sample
  int64_t weight = 0;         // sum of all losses' weights so far (tokens, say)
  uint64_t random_state = 0;  // what this step's randomness derives from
  uint32_t moments = 0;       // sections after the parameters
  uint32_t reserved = 0;
  uint8_t samples_digest[32] = {};
};
static_assert(sizeof(StateHeader) == 96);

// Two state blocks in windows and one word that says which of them holds. A step writes all of the idle block and then flips
// the word; whatever fails before leaves the state as it was. The idle block is a snapshot of the step before until the next
// one begins to write.
//
// The word is the number of applied steps, and block word%2 holds, so ranks that applied the same number use the same block.
// Threads: one writer; word() may be read from any.
class TrainingState {
 public:
  // Collective. Both blocks get the same header; parameters and moments are zero.
  static absl::StatusOr<std::unique_ptr<TrainingState>> Create(Communicator& communicator, std::span<const int64_t> counts,
                                                               int moments, uint64_t random_state);

  uint64_t word() const { return word_.load(std::memory_order_acquire); }
  int live() const { return static_cast<int>(word() % 2); }
  int idle() const { return 1 - live(); }

  StateHeader& header(int block) const { return *static_cast<StateHeader*>(windows_[block]->data()); }
  std::span<int64_t> rank_samples(int block) const;
  float* value(int block, int32_t parameter) const { return floats(block) + value_offsets_[parameter]; }
  // moment in [0, moments)
  float* moment(int block, int moment, int32_t parameter) const {
    return value(block, parameter) + (moment + 1) * section_floats_;
  }
  // All parameters with the zeros between them.
  Tensor values(int block) const { return MakeTensor(floats(block), section_floats_); }
  std::span<const uint8_t> bytes(int block) const;

  // Parameters and moments with the zeros between them.
  Tensor floats_of(int block) const { return MakeTensor(floats(block), (1 + header(block).moments) * section_floats_); }

  // As if `steps` steps had been applied; what block steps%2 holds is the caller's to fill.
  void Restore(int64_t steps) { word_.store(static_cast<uint64_t>(steps), std::memory_order_release); }

  // Makes the idle block the one that holds: the only moment in which the state changes.
  void Flip() { word_.store(word() + 1, std::memory_order_release); }

 private:
  TrainingState() = default;
  float* floats(int block) const;

  std::unique_ptr<Window> windows_[2];
  std::atomic<uint64_t> word_{0};
  std::vector<int64_t> value_offsets_;  // in floats, from the first parameter
  int64_t section_floats_ = 0;          // parameters, or one moment of all
  int64_t values_offset_bytes_ = 0;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRAINING_STATE_H_
