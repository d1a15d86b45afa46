// What a trainer holds on a GPU: streams, events and memory that go when their owner does, and errors in words.
#ifndef MUSTER_RUNTIME_TRAINING_GPU_H_
#define MUSTER_RUNTIME_TRAINING_GPU_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "muster/tensor.h"
#include "runtime/device/cuda_api.h"
#include "runtime/device/device_kernels.h"

namespace muster {

inline constexpr int64_t kFloatBytes = SizeOf(DataType::kFloat32);

// A device and what is called on it; outlives what is made on it. Any thread.
struct Gpu {
  std::shared_ptr<CudaApi> cuda;
  DeviceKernels& kernels;
  const int device;

  // Internal: "cannot <doing> on GPU 0: ...".
  absl::Status Check(int code, absl::string_view doing) const;
  // Makes it the calling thread's current device, as streams want it.
  absl::Status Use() const;
};

// Make is called once, before anything else.
class GpuStream {
 public:
  explicit GpuStream(const Gpu& gpu) : gpu_(gpu) {}
  ~GpuStream();
  GpuStream(const GpuStream&) = delete;
  GpuStream& operator=(const GpuStream&) = delete;

  absl::Status Make();
  CudaStream get() const { return stream_; }
  absl::Status Copy(void* to, const void* from, int64_t floats) const;
  absl::Status Zero(void* memory, int64_t floats) const;
  absl::Status Synchronize() const;

 private:
  const Gpu& gpu_;
  CudaStream stream_ = nullptr;
};

class GpuEvent {
 public:
  explicit GpuEvent(const Gpu& gpu) : gpu_(gpu) {}
  ~GpuEvent();
  GpuEvent(const GpuEvent&) = delete;
  GpuEvent& operator=(const GpuEvent&) = delete;

  absl::Status Make();
  absl::Status Record(const GpuStream& stream) const;
  absl::Status AwaitOn(const GpuStream& stream) const;

 private:
  const Gpu& gpu_;
  CudaEvent event_ = nullptr;
};

// Device memory, zeroed on `stream`.
class GpuFloats {
 public:
  explicit GpuFloats(const Gpu& gpu) : gpu_(gpu) {}
  ~GpuFloats();
  GpuFloats(const GpuFloats&) = delete;
  GpuFloats& operator=(const GpuFloats&) = delete;

  // Errors: ResourceExhausted says how much there is no room for.
  absl::Status Make(int64_t floats, const GpuStream& stream);
  float* get() const { return static_cast<float*>(memory_); }

 private:
  const Gpu& gpu_;
  void* memory_ = nullptr;
};

// Zeros in the host's memory that take none before they are touched.
class LazyPages {
 public:
  explicit LazyPages(int64_t bytes);
  ~LazyPages();
  LazyPages(const LazyPages&) = delete;
  LazyPages& operator=(const LazyPages&) = delete;
  void* get() const { return memory_; }

 private:
  const size_t bytes_;
  void* memory_;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRAINING_GPU_H_
