// Everything a training step changes, twice: the state that holds and the one being written.
#ifndef MUSTER_RUNTIME_TRAINING_STATE_H_
#define MUSTER_RUNTIME_TRAINING_STATE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/training/buckets.h"
#include "runtime/training/place.h"

namespace muster {

inline constexpr uint64_t kStateMagic = 0x6574617473736d75;  // "umsstate" in memory
inline constexpr uint32_t kStateVersion = 1;

// The first bytes of a state block. A block holds everything: this header and the samples fed by each rank so far (int64), always in
// the host's memory, and at the trainer's place the parameters, then each moment, as float32. (On the host the two are one contiguous
// run.) Every section and every tensor in it starts on a 64-byte boundary; bytes between them are zero. Parameters stand in order of
// registration.
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

// Two state blocks and one word that says which of them holds. A step writes all of the idle block and then flips
// the word; whatever fails before leaves the state as it was. The idle block is a snapshot of the step before until the next
// one begins to write.
//
// The word is the number of applied steps, and block word%2 holds, so ranks that applied the same number use the same block.
// Threads: one writer; word() may be read from any.
class TrainingState {
 public:
  // Collective. Both blocks get the same header; parameters and moments are zero.
  static absl::StatusOr<std::unique_ptr<TrainingState>> Create(Place& place, int world_size, std::span<const int64_t> counts,
                                                               int moments, uint64_t random_state);

  uint64_t word() const { return word_.load(std::memory_order_acquire); }
  int live() const { return static_cast<int>(word() % 2); }
  int idle() const { return 1 - live(); }

  StateHeader& header(int block) const { return *static_cast<StateHeader*>(blocks_[block]->head()); }
  std::span<int64_t> rank_samples(int block) const;

  // At the place; moment in [0, moments).
  float* value(int block, int32_t parameter) const { return blocks_[block]->data() + value_offsets_[parameter]; }
  float* moment(int block, int moment, int32_t parameter) const {
    return value(block, parameter) + (moment + 1) * section_floats_;
  }

  // For the host, in section 0, the parameters, or 1 + moment. Room to write to before Spread, or what Fetch brought.
  float* host(int block, int section, int32_t parameter) const {
    return blocks_[block]->host() + section * section_floats_ + value_offsets_[parameter];
  }
  // Any thread; `host` then holds that tensor as it is at the place.
  absl::Status Fetch(int block, int section, int32_t parameter) const;

  // Collective. Every rank gets rank 0's parameters, or parameters and moments, as its host sees them.
  absl::Status SpreadValues(int block, absl::Time deadline) { return Spread(block, 1, deadline); }
  absl::Status SpreadAll(int block, absl::Time deadline) { return Spread(block, 1 + header(block).moments, deadline); }

  // The idle block is about to be written.
  void BeginWrite() { blocks_[idle()]->Touch(); }

  // As if `steps` steps had been applied; what block steps%2 holds is the caller's to fill.
  void Restore(int64_t steps) { word_.store(static_cast<uint64_t>(steps), std::memory_order_release); }

  // Makes the idle block the one that holds: the only moment in which the state changes.
  void Flip() { word_.store(word() + 1, std::memory_order_release); }

 private:
  explicit TrainingState(Place& place) : place_(place) {}
  absl::Status Spread(int block, int64_t sections, absl::Time deadline);

  Place& place_;
  std::unique_ptr<PlaceMemory> blocks_[2];
  std::atomic<uint64_t> word_{0};
  std::vector<int64_t> counts_;         // elements by parameter
  std::vector<int64_t> value_offsets_;  // in floats, from the first parameter
  int64_t section_floats_ = 0;          // parameters, or one moment of all
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRAINING_STATE_H_
