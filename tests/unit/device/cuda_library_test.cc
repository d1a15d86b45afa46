// The real libcudart where it is, with and without a GPU; and what is said where there is none.
#include "runtime/device/cuda_library.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/fake_cuda.h"

namespace muster::test {
namespace {

using testing::HasSubstr;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

TEST(UsableGpus, SaysInASentenceWhyThereAreNone) {
  struct {
    FakeCudaOptions options;
    std::string says;
  } const cases[] = {{{.devices = 0, .driver = 0}, "NVIDIA's driver (libcuda.so.1) is not here; install it"},
                     {{.devices = 0}, "the driver sees none; look at `nvidia-smi` and at CUDA_VISIBLE_DEVICES"},
                     {{.driver = 11040, .fails = [](const std::string&, int) { return kCudaInsufficientDriver; }},
                      "the driver is for CUDA 11.4, the CUDA runtime here is 13.0"},
                     {{.fails = [](const std::string&, int) { return 46; }}, "fake CUDA error 46"}};
  for (const auto& c : cases) {
    FakeCuda cuda(c.options);
    const absl::Status status = UsableGpus(cuda).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(Text(status), HasSubstr("no GPU can be used: "));
    EXPECT_THAT(Text(status), HasSubstr(c.says));
  }
  FakeCuda cuda({.devices = 3});
  EXPECT_EQ(UsableGpus(cuda).value_or(0), 3);
}

TEST(CudaLibrary, AFileThatIsNotThere) {
  const absl::Status status = OpenCudaLibrary("/nowhere/libcudart.so").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(Text(status), HasSubstr("MUSTER_CUDA_LIBRARY: /nowhere/libcudart.so"));
}

TEST(CudaLibrary, AnotherLibrary) {
  const absl::Status status = OpenCudaLibrary("libc.so.6").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(Text(status), HasSubstr("has no cudaGetDeviceCount"));
}

// Everything that the real runtime does with no GPU, and with one more.
TEST(CudaLibrary, TheRealOne) {
  auto opened = OpenCudaLibrary("");
  if (!opened.ok()) GTEST_SKIP() << opened.status();
  CudaApi& cuda = **opened;
  int runtime = 0, driver = 0;
  ASSERT_EQ(cuda.Versions(&runtime, &driver), kCudaOk);
  EXPECT_GE(runtime, 11000);
  char words[200] = "";
  cuda.ErrorText(kCudaInsufficientDriver, words, sizeof words);
  EXPECT_THAT(std::string(words), HasSubstr("cudaErrorInsufficientDriver"));
  CudaEvent none = nullptr;
  EXPECT_NE(cuda.Record(none, nullptr), kCudaOk) << "the legacy default stream is never used";

  const auto gpus = UsableGpus(cuda);
  if (!gpus.ok()) {
    EXPECT_TRUE(absl::IsFailedPrecondition(gpus.status())) << gpus.status();
    int count = 7;
    EXPECT_NE(cuda.DeviceCount(&count), kCudaOk);
    EXPECT_EQ(count, 0);
    GTEST_SKIP() << "the runtime " << runtime << " is here, but: " << gpus.status().message();
  }
  ASSERT_EQ(cuda.SetDevice(0), kCudaOk);
  CudaStream stream = nullptr;
  CudaEvent event = nullptr;
  void* device = nullptr;
  void* pinned = nullptr;
  ASSERT_EQ(cuda.MakeStream(&stream), kCudaOk);
  ASSERT_EQ(cuda.MakeEvent(&event), kCudaOk);
  ASSERT_EQ(cuda.Allocate(&device, 4096), kCudaOk);
  ASSERT_EQ(cuda.AllocateHost(&pinned, 4096), kCudaOk);
  MemoryKind kind = MemoryKind::kHost;
  int on = -1;
  EXPECT_EQ(cuda.KindOf(device, &kind, &on), kCudaOk);
  EXPECT_EQ(kind, MemoryKind::kDevice);
  EXPECT_EQ(on, 0);
  EXPECT_EQ(cuda.KindOf(pinned, &kind, &on), kCudaOk);
  EXPECT_EQ(kind, MemoryKind::kPinned);
  EXPECT_EQ(cuda.KindOf(&kind, &kind, &on), kCudaOk);
  EXPECT_EQ(kind, MemoryKind::kHost);
  std::vector<int> values(1024, 5);
  EXPECT_EQ(cuda.Copy(device, values.data(), 4096, stream), kCudaOk);
  EXPECT_EQ(cuda.Copy(pinned, device, 4096, stream), kCudaOk);
  EXPECT_EQ(cuda.Record(event, stream), kCudaOk);
  EXPECT_EQ(cuda.Synchronize(stream), kCudaOk);
  bool done = false;
  EXPECT_EQ(cuda.EventDone(event, &done), kCudaOk);
  EXPECT_TRUE(done);
  EXPECT_EQ(static_cast<int*>(pinned)[1023], 5);
  EXPECT_EQ(cuda.FreeHost(pinned), kCudaOk);
  EXPECT_EQ(cuda.Free(device), kCudaOk);
  EXPECT_EQ(cuda.DestroyEvent(event), kCudaOk);
  EXPECT_EQ(cuda.DestroyStream(stream), kCudaOk);
}

}  // namespace
}  // namespace muster::test
