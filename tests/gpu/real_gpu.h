// GPU 0 of this machine, for tests; they skip where there is none.
#ifndef MUSTER_TESTS_GPU_REAL_GPU_H_
#define MUSTER_TESTS_GPU_REAL_GPU_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/device/cuda_api.h"
#include "runtime/device/cuda_library.h"
#include "runtime/device/device_kernels.h"
#include "runtime/device/kernels_library.h"

namespace muster::test {

class OnGpu : public testing::Test {
 protected:
  void SetUp() override {
    const char* const library = std::getenv("MUSTER_CUDA_LIBRARY");
    auto cuda = OpenCudaLibrary(library == nullptr ? "" : library);
    if (!cuda.ok()) GTEST_SKIP() << "not run: " << cuda.status().message();
    const auto devices = UsableGpus(**cuda);
    if (!devices.ok()) GTEST_SKIP() << "not run: " << devices.status().message();
    const auto kernels = OpenCudaKernels();
    ASSERT_TRUE(kernels.ok()) << kernels.status();
    cuda_ = *std::move(cuda);
    kernels_ = *kernels;
    ASSERT_EQ(cuda_->SetDevice(0), kCudaOk);
    ASSERT_EQ(cuda_->MakeStream(&stream_), kCudaOk);
  }
  void TearDown() override {
    for (void* memory : memory_) EXPECT_EQ(cuda_->Free(memory), kCudaOk);
    if (stream_ != nullptr) {
      EXPECT_EQ(cuda_->DestroyStream(stream_), kCudaOk);
    }
  }

  DeviceQueue Queue() const { return {0, stream_}; }

  // Device memory until the test's end, with these bytes in it.
  template <class T>
  T* Upload(const std::vector<T>& host) {
    void* memory = nullptr;
    EXPECT_EQ(cuda_->Allocate(&memory, static_cast<int64_t>(host.size() * sizeof(T) + 1)), kCudaOk);
    memory_.push_back(memory);
    EXPECT_EQ(cuda_->Copy(memory, host.data(), static_cast<int64_t>(host.size() * sizeof(T)), stream_), kCudaOk);
    EXPECT_EQ(cuda_->Synchronize(stream_), kCudaOk);
    return static_cast<T*>(memory);
  }
  template <class T>
  std::vector<T> Download(const T* device, size_t count) {
    std::vector<T> host(count);
    EXPECT_EQ(cuda_->Copy(host.data(), device, static_cast<int64_t>(count * sizeof(T)), stream_), kCudaOk);
    EXPECT_EQ(cuda_->Synchronize(stream_), kCudaOk);
    return host;
  }

  std::shared_ptr<CudaApi> cuda_;
  DeviceKernels* kernels_ = nullptr;
  CudaStream stream_ = nullptr;

 private:
  std::vector<void*> memory_;
};

}  // namespace muster::test

#endif  // MUSTER_TESTS_GPU_REAL_GPU_H_
