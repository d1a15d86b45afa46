#include "runtime/training/host_place.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/training/buckets.h"
#include "runtime/training/fold.h"

namespace muster {
namespace {

class WindowMemory final : public PlaceMemory {
 public:
  WindowMemory(std::unique_ptr<Window> window, int64_t head_bytes) : window_(std::move(window)), head_bytes_(head_bytes) {}

  float* data() override { return reinterpret_cast<float*>(static_cast<std::byte*>(window_->data()) + head_bytes_); }
  float* host() override { return data(); }
  absl::Status Fetch(int64_t, int64_t) override { return absl::OkStatus(); }
  void Touch() override {}
  void* head() override { return window_->data(); }

 private:
  const std::unique_ptr<Window> window_;
  const int64_t head_bytes_;
};

class OwnMemory final : public PlaceMemory {
 public:
  explicit OwnMemory(int64_t floats) {
    const size_t bytes = static_cast<size_t>(AlignUp(std::max<int64_t>(floats, 1))) * sizeof(float);
    memory_.reset(static_cast<float*>(std::aligned_alloc(kTensorAlignment * sizeof(float), bytes)));
    MUSTER_CHECK(memory_ != nullptr, "out of memory for gradients");
    std::memset(memory_.get(), 0, bytes);
  }

  float* data() override { return memory_.get(); }
  float* host() override { return memory_.get(); }
  absl::Status Fetch(int64_t, int64_t) override { return absl::OkStatus(); }
  void Touch() override {}
  void* head() override { return nullptr; }

 private:
  struct Free {
    void operator()(float* memory) const { std::free(memory); }
  };
  std::unique_ptr<float, Free> memory_;
};

class WindowBucket final : public Bucket {
 public:
  WindowBucket(Communicator& communicator, std::unique_ptr<Window> window, int64_t floats, int32_t shards)
      : communicator_(communicator), window_(std::move(window)), floats_(floats), shards_(shards) {}

  float* data() override { return static_cast<float*>(window_->data()); }

  absl::Status Start(absl::Time deadline) override {
    const ShardedTensor partials{window_->data(), floats_, floats_ * SizeOf(DataType::kFloat32), DataType::kFloat32, shards_};
    work_ = nullptr;
    MUSTER_ASSIGN_OR_RETURN(work_, communicator_.StartAllReduceShards(partials, ReduceOp::kSum, deadline));
    // Where ranks share a core the progress thread would wait for this thread's time slice, and all peers for it.
    std::this_thread::yield();
    return absl::OkStatus();
  }
  absl::Status Wait() override { return work_->Wait(); }
  void Abandon() override {
    if (work_ != nullptr) work_->Wait().IgnoreError();
  }
  absl::Time StartTime() const override { return work_->StartTime(); }
  absl::Time EndTime() const override { return work_->EndTime(); }

 private:
  Communicator& communicator_;
  const std::unique_ptr<Window> window_;
  const int64_t floats_;
  const int32_t shards_;
  std::unique_ptr<Work> work_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<PlaceMemory>> HostPlace::MakeState(int64_t head_bytes, int64_t floats) {
  MUSTER_ASSIGN_OR_RETURN(auto window, communicator_.CreateWindow(head_bytes + floats * SizeOf(DataType::kFloat32)));
  return std::make_unique<WindowMemory>(std::move(window), head_bytes);
}

absl::StatusOr<std::unique_ptr<PlaceMemory>> HostPlace::MakeScratch(int64_t floats) {
  return std::make_unique<OwnMemory>(floats);
}

absl::StatusOr<std::unique_ptr<Bucket>> HostPlace::MakeBucket(int64_t floats, int32_t rows, int32_t shards) {
  MUSTER_ASSIGN_OR_RETURN(auto window, communicator_.CreateWindow(floats * rows * SizeOf(DataType::kFloat32)));
  return std::make_unique<WindowBucket>(communicator_, std::move(window), floats, shards);
}

absl::Status HostPlace::Spread(PlaceMemory& memory, int64_t count, absl::Time deadline) {
  return communicator_.Broadcast(MakeTensor(memory.data(), count), 0, deadline);
}

absl::Status HostPlace::Zero(float* memory, int64_t count) {
  std::memset(memory, 0, static_cast<size_t>(count) * sizeof(float));
  return absl::OkStatus();
}

absl::Status HostPlace::Fold(float* output, std::span<const float* const> levels, const float* leaf, int64_t count) {
  FoldInto(output, levels, leaf, count);
  return absl::OkStatus();
}

absl::Status HostPlace::Update(const UpdateNumbers& numbers, int64_t count, const UpdateInput& input,
                               const UpdateOutput& output) {
  muster::Update(numbers, count, input, output);
  return absl::OkStatus();
}

}  // namespace muster
