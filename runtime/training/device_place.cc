#include "runtime/training/device_place.h"

#include <cstdlib>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "muster/device.h"
#include "muster/shards.h"
#include "muster/trainer.h"
#include "runtime/base/log.h"
#include "runtime/base/mutex.h"
#include "runtime/base/status.h"
#include "runtime/device/cuda_library.h"
#include "runtime/device/kernels_library.h"
#include "runtime/training/agreement.h"
#include "runtime/training/gpu.h"
#include "runtime/training/ordered_worker.h"

namespace muster {
namespace {

class DeviceMemory final : public PlaceMemory {
 public:
  DeviceMemory(const Gpu& gpu, int64_t head_bytes, int64_t floats)
      : stream_(gpu), floats_(gpu), count_(floats), head_(head_bytes), host_(floats * kFloatBytes) {}

  absl::Status Make() {
    MUSTER_RETURN_IF_ERROR(stream_.Make());
    MUSTER_RETURN_IF_ERROR(floats_.Make(count_, stream_));
    return stream_.Synchronize();
  }

  float* data() override { return floats_.get(); }
  float* host() override { return static_cast<float*>(host_.get()); }
  void* head() override { return head_.get(); }

  absl::Status Fetch(int64_t first, int64_t count) override {
    MutexLock lock(mutex_);
    if (first_copy_) return absl::OkStatus();
    int64_t& fetched = fetched_[first];
    if (fetched >= count) return absl::OkStatus();
    MUSTER_RETURN_IF_ERROR(stream_.Copy(host() + first, data() + first, count));
    MUSTER_RETURN_IF_ERROR(stream_.Synchronize());
    fetched = count;
    return absl::OkStatus();
  }
  void Touch() override {
    MutexLock lock(mutex_);
    first_copy_ = false;
    fetched_.clear();
  }

 private:
  Mutex mutex_;  // also of stream_: a save reads in a thread of its own
  GpuStream stream_;
  GpuFloats floats_;
  const int64_t count_;
  const LazyPages head_;
  const LazyPages host_;
  bool first_copy_ ABSL_GUARDED_BY(mutex_) = true;  // host() and data() still are what the maker and Spread put there
  std::map<int64_t, int64_t> fetched_ ABSL_GUARDED_BY(mutex_);  // count by first
};

// What a bucket shares with its place.
struct Shared {
  Shared(Communicator& communicator, Gpu gpu) : communicator(communicator), gpu(std::move(gpu)) {}

  Communicator& communicator;
  const Gpu gpu;
  GpuStream stream{gpu};  // the passes'
  GpuStream side{gpu};    // the worker's alone
  OrderedWorker worker;
  std::vector<std::shared_ptr<Work>> followed;  // all-reduces on the stream of which is not yet known whether they went well
};

// Rows on the device, and a window through which they go to the communicator and back.
class StagedBucket final : public Bucket {
 public:
  StagedBucket(Shared& shared, int64_t floats, int32_t rows, int32_t shards)
      : shared_(shared), rows_(shared.gpu), ready_(shared.gpu), floats_(floats), row_count_(rows), shards_(shards) {
    const Communicator& communicator = shared.communicator;
    owned_rows_ = static_cast<int64_t>(OwnedPartials(shards, communicator.world_size(), communicator.rank()).size());
  }

  absl::Status MakeRows() {
    MUSTER_RETURN_IF_ERROR(ready_.Make());
    return rows_.Make(floats_ * row_count_, shared_.stream);
  }
  // Collective.
  absl::Status MakeWindow() {
    MUSTER_ASSIGN_OR_RETURN(window_, shared_.communicator.CreateWindow(floats_ * row_count_ * kFloatBytes));
    return absl::OkStatus();
  }

  float* data() override { return rows_.get(); }

  absl::Status Start(absl::Time deadline) override {
    MUSTER_RETURN_IF_ERROR(ready_.Record(shared_.stream));
    return shared_.worker.Put([this, deadline]() -> absl::Status {
      work_ = nullptr;
      MUSTER_RETURN_IF_ERROR(ready_.AwaitOn(shared_.side));
      MUSTER_RETURN_IF_ERROR(shared_.side.Copy(window_->data(), rows_.get(), floats_ * owned_rows_));
      MUSTER_RETURN_IF_ERROR(shared_.side.Synchronize());
      const ShardedTensor partials{window_->data(), floats_, floats_ * kFloatBytes, DataType::kFloat32, shards_};
      MUSTER_ASSIGN_OR_RETURN(work_, shared_.communicator.StartAllReduceShards(partials, ReduceOp::kSum, deadline));
      return absl::OkStatus();
    });
  }

  absl::Status Wait() override {
    MUSTER_RETURN_IF_ERROR(shared_.worker.Await());
    MUSTER_CHECK(work_ != nullptr, "an all-reduce that was left out is waited for");
    MUSTER_RETURN_IF_ERROR(work_->Wait());
    // The next Start's copy the other way runs after this one: its event stands behind it on the same stream.
    return shared_.stream.Copy(rows_.get(), window_->data(), floats_);
  }

  void Abandon() override {
    shared_.worker.Await().IgnoreError();
    if (work_ != nullptr) work_->Wait().IgnoreError();
  }

  absl::Time StartTime() const override { return work_->StartTime(); }
  absl::Time EndTime() const override { return work_->EndTime(); }

 private:
  Shared& shared_;
  std::unique_ptr<Window> window_;
  GpuFloats rows_;
  GpuEvent ready_;
  const int64_t floats_;
  const int64_t row_count_;
  const int32_t shards_;
  int64_t owned_rows_ = 0;
  std::unique_ptr<Work> work_;  // the worker's while it has work
};

// Rows that the communicator reduces where they are, on a stream of its own.
class DirectBucket final : public Bucket {
 public:
  DirectBucket(Shared& shared, DeviceCollectives& collectives, int64_t floats, int32_t shards)
      : shared_(shared), collectives_(collectives), floats_(floats), shards_(shards) {}

  // Collective.
  absl::Status Make(int32_t rows) {
    MUSTER_ASSIGN_OR_RETURN(window_, collectives_.CreateDeviceWindow(floats_ * rows * kFloatBytes));
    return absl::OkStatus();
  }

  float* data() override { return static_cast<float*>(window_->data()); }

  absl::Status Start(absl::Time deadline) override {
    MUSTER_RETURN_IF_ERROR(shared_.gpu.Use());
    work_ = nullptr;
    collectives_.SetStream(shared_.stream.get());
    const ShardedTensor partials{window_->data(), floats_, floats_ * kFloatBytes, DataType::kFloat32, shards_};
    auto work = shared_.communicator.StartAllReduceShards(partials, ReduceOp::kSum, deadline);
    collectives_.SetStream(nullptr);  // what the trainer's other collectives send is ready when they are called
    if (!work.ok()) return work.status();
    work_ = *std::move(work);
    return absl::OkStatus();
  }

  absl::Status Wait() override {
    MUSTER_RETURN_IF_ERROR(shared_.gpu.Use());
    MUSTER_RETURN_IF_ERROR(collectives_.Follow(*work_, shared_.stream.get()));
    shared_.followed.push_back(work_);
    return absl::OkStatus();
  }

  void Abandon() override {
    if (work_ != nullptr) work_->Wait().IgnoreError();
  }

  absl::Time StartTime() const override { return work_->StartTime(); }
  absl::Time EndTime() const override { return work_->EndTime(); }

 private:
  Shared& shared_;
  DeviceCollectives& collectives_;
  const int64_t floats_;
  const int32_t shards_;
  std::unique_ptr<Window> window_;
  std::shared_ptr<Work> work_;
};

class DevicePlace final : public Place {
 public:
  DevicePlace(Communicator& communicator, Gpu gpu) : shared_(communicator, std::move(gpu)) {}

  absl::Status Make() {
    MUSTER_RETURN_IF_ERROR(shared_.stream.Make());
    return shared_.side.Make();
  }

  void* stream() const override { return shared_.stream.get(); }
  absl::Status Agree(const absl::Status& own, absl::Time deadline) override {
    return AgreeOnOutcome(shared_.communicator, own, deadline);
  }

  absl::StatusOr<std::unique_ptr<PlaceMemory>> MakeState(int64_t head_bytes, int64_t floats) override {
    auto memory = std::make_unique<DeviceMemory>(gpu(), head_bytes, floats);
    MUSTER_RETURN_IF_ERROR(memory->Make());
    return memory;
  }
  absl::StatusOr<std::unique_ptr<PlaceMemory>> MakeScratch(int64_t floats) override { return MakeState(0, floats); }

  absl::StatusOr<std::unique_ptr<Bucket>> MakeBucket(int64_t floats, int32_t rows, int32_t shards) override {
    DeviceCollectives* const collectives = shared_.communicator.capabilities().device;
    if (collectives != nullptr && collectives->device() == gpu().device) {
      MUSTER_RETURN_IF_ERROR(Agree(gpu().Use(), absl::InfiniteFuture()));
      auto bucket = std::make_unique<DirectBucket>(shared_, *collectives, floats, shards);
      MUSTER_RETURN_IF_ERROR(bucket->Make(rows));
      return bucket;
    }
    auto bucket = std::make_unique<StagedBucket>(shared_, floats, rows, shards);
    MUSTER_RETURN_IF_ERROR(Agree(bucket->MakeRows(), absl::InfiniteFuture()));
    MUSTER_RETURN_IF_ERROR(bucket->MakeWindow());
    return bucket;
  }

  absl::Status Spread(PlaceMemory& memory, int64_t count, absl::Time deadline) override {
    MUSTER_RETURN_IF_ERROR(shared_.communicator.Broadcast(MakeTensor(memory.host(), count), 0, deadline));
    absl::Status copied = shared_.stream.Copy(memory.data(), memory.host(), count);
    if (copied.ok()) copied = Finish();
    return Agree(copied, deadline);  // the next call is one that all ranks make
  }

  absl::Status Zero(float* memory, int64_t count) override { return shared_.stream.Zero(memory, count); }

  absl::Status Fold(float* output, std::span<const float* const> levels, const float* leaf, int64_t count) override {
    // The levels are pushed, the highest first, then the leaf, and all is merged from the top.
    DeviceReduce call;
    for (auto level = levels.rbegin(); level != levels.rend(); ++level) call.sources[call.sources_count++] = *level;
    call.merges[call.sources_count] = static_cast<uint8_t>(levels.size());
    call.sources[call.sources_count++] = leaf;
    call.destination = output;
    call.count = count;
    return KernelStatus(gpu().kernels, gpu().kernels.Reduce(call, Queue()), "add gradients");
  }

  absl::Status Update(const UpdateNumbers& numbers, int64_t count, const UpdateInput& input,
                      const UpdateOutput& output) override {
    return KernelStatus(gpu().kernels, gpu().kernels.Update(numbers, count, input, output, Queue()), "update parameters");
  }

  absl::Status AwaitStarts() override { return shared_.worker.Await(); }
  absl::Status Finish() override {
    // Also of a step before, which has failed: then it is this communicator's end anyway.
    const std::vector<std::shared_ptr<Work>> followed = std::exchange(shared_.followed, {});
    for (const std::shared_ptr<Work>& work : followed) MUSTER_RETURN_IF_ERROR(work->Wait());
    return shared_.stream.Synchronize();
  }

 private:
  const Gpu& gpu() const { return shared_.gpu; }
  DeviceQueue Queue() const { return {gpu().device, shared_.stream.get()}; }

  Shared shared_;
};

// What a real GPU takes.
struct CudaParts {
  std::shared_ptr<CudaApi> cuda;
  DeviceKernels* kernels = nullptr;
  int devices = 0;
};

absl::StatusOr<CudaParts> OpenCuda() {
  const char* const library = std::getenv("MUSTER_CUDA_LIBRARY");
  CudaParts parts;
  MUSTER_ASSIGN_OR_RETURN(parts.cuda, OpenCudaLibrary(library == nullptr ? "" : library));
  MUSTER_ASSIGN_OR_RETURN(parts.devices, UsableGpus(*parts.cuda));
  MUSTER_ASSIGN_OR_RETURN(parts.kernels, OpenCudaKernels());
  return parts;
}

// `*device` negative: becomes the thread's current one.
absl::StatusOr<CudaParts> OpenCudaFor(int* device) {
  MUSTER_ASSIGN_OR_RETURN(CudaParts parts, OpenCuda());
  if (*device < 0) static_cast<void>(parts.cuda->GetDevice(device));
  if (*device < parts.devices) return parts;
  return absl::InvalidArgumentError(
      absl::StrFormat("GPU %d was asked for, but this process can use only GPUs 0 to %d (see CUDA_VISIBLE_DEVICES)", *device,
                      parts.devices - 1));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Place>> CreateDevicePlace(Communicator& communicator, std::shared_ptr<CudaApi> cuda,
                                                         DeviceKernels& kernels, int device) {
  auto place = std::make_unique<DevicePlace>(communicator, Gpu{std::move(cuda), kernels, device});
  MUSTER_RETURN_IF_ERROR(place->Agree(place->Make(), absl::InfiniteFuture()));
  return place;
}

absl::StatusOr<std::unique_ptr<Place>> CreateCudaPlace(Communicator& communicator, int device) {
  const absl::StatusOr<CudaParts> opened = OpenCudaFor(&device);
  MUSTER_RETURN_IF_ERROR(AgreeOnOutcome(communicator, opened.status(), absl::InfiniteFuture()));
  return CreateDevicePlace(communicator, opened->cuda, *opened->kernels, device);
}

absl::StatusOr<int> CudaDevices() {
  MUSTER_ASSIGN_OR_RETURN(const CudaParts parts, OpenCuda());
  return parts.devices;
}

}  // namespace muster
