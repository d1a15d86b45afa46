// DeviceKernels on the streams of FakeCuda, computed by runtime/kernels and the host's optimizers.
#ifndef MUSTER_TESTS_SUPPORT_FAKE_KERNELS_H_
#define MUSTER_TESTS_SUPPORT_FAKE_KERNELS_H_

#include <functional>
#include <string>

#include "runtime/device/device_kernels.h"
#include "tests/support/fake_cuda.h"

namespace muster::test {

class FakeKernels final : public DeviceKernels {
 public:
  explicit FakeKernels(FakeCuda& cuda) : cuda_(cuda) {}

  int Update(const kernels::UpdateNumbers& numbers, int64_t count, const kernels::UpdateInput& input,
             const kernels::UpdateOutput& output, DeviceQueue queue) override;
  int Reduce(const DeviceReduce& call, DeviceQueue queue) override;
  int Divide(void* buffer, int64_t count, DataType type, int32_t divisor, DeviceQueue queue) override;
  int Widen(DataType half, const void* source, float* destination, int64_t count, DeviceQueue queue) override;
  int Round(DataType half, const float* source, void* destination, int64_t count, DeviceQueue queue) override;
  void ErrorText(int code, char* text, size_t bytes) override { cuda_.ErrorText(code, text, bytes); }
  const char* Library() override { return "fake kernels"; }

 private:
  int Enqueue(DeviceQueue queue, std::function<void()> work);

  FakeCuda& cuda_;
};

}  // namespace muster::test

#endif  // MUSTER_TESTS_SUPPORT_FAKE_KERNELS_H_
