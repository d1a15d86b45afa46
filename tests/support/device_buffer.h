// Memory of a FakeCuda's GPU, for the life of a test's block.
#ifndef MUSTER_TESTS_SUPPORT_DEVICE_BUFFER_H_
#define MUSTER_TESTS_SUPPORT_DEVICE_BUFFER_H_

#include <gtest/gtest.h>

#include <cstdint>

#include "tests/support/fake_cuda.h"
#include "tests/support/reference.h"

namespace muster::test {

// Memory of one rank's GPU.
class DeviceBuffer {
 public:
  DeviceBuffer(FakeCuda& cuda, int device, int64_t bytes) : cuda_(cuda), bytes_(bytes) {
    EXPECT_EQ(cuda.SetDevice(device), kCudaOk);
    EXPECT_EQ(cuda.Allocate(&memory_, bytes), kCudaOk);
  }
  ~DeviceBuffer() {
    if (memory_ != nullptr) cuda_.Free(memory_);
  }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  // Leaves it allocated: a stream hangs that may still write to it.
  void Leave() { memory_ = nullptr; }

  template <typename T>
  T* data() const {
    return static_cast<T*>(memory_);
  }
  // What the device sees.
  template <typename T>
  T* view() const {
    return cuda_.HostView(data<T>());
  }
  Bytes bytes() const { return Bytes(view<unsigned char>(), view<unsigned char>() + bytes_); }

 private:
  FakeCuda& cuda_;
  const int64_t bytes_;
  void* memory_ = nullptr;
};

}  // namespace muster::test

#endif  // MUSTER_TESTS_SUPPORT_DEVICE_BUFFER_H_
