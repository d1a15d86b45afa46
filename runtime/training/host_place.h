// Training in the host's memory, by the calling thread.
#ifndef MUSTER_RUNTIME_TRAINING_HOST_PLACE_H_
#define MUSTER_RUNTIME_TRAINING_HOST_PLACE_H_

#include "muster/communicator.h"
#include "runtime/training/place.h"

namespace muster {

// State blocks and buckets are windows; a block's head stands right before its floats. What is queued is done when the call returns.
class HostPlace final : public Place {
 public:
  explicit HostPlace(Communicator& communicator) : communicator_(communicator) {}

  void* stream() const override { return nullptr; }
  absl::Status Agree(const absl::Status& own, absl::Time) override { return own; }  // what fails here fails on all ranks
  absl::StatusOr<std::unique_ptr<PlaceMemory>> MakeState(int64_t head_bytes, int64_t floats) override;
  absl::StatusOr<std::unique_ptr<PlaceMemory>> MakeScratch(int64_t floats) override;
  absl::StatusOr<std::unique_ptr<Bucket>> MakeBucket(int64_t floats, int32_t rows, int32_t shards) override;
  absl::Status Spread(PlaceMemory& memory, int64_t count, absl::Time deadline) override;
  absl::Status Zero(float* memory, int64_t count) override;
  absl::Status Fold(float* output, std::span<const float* const> levels, const float* leaf, int64_t count) override;
  absl::Status Update(const UpdateNumbers& numbers, int64_t count, const UpdateInput& input,
                      const UpdateOutput& output) override;
  absl::Status AwaitStarts() override { return absl::OkStatus(); }
  absl::Status Finish() override { return absl::OkStatus(); }

 private:
  Communicator& communicator_;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRAINING_HOST_PLACE_H_
