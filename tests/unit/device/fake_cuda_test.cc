// The fake keeps what the real runtime promises: order on a stream, none between streams but by events, memory that only it can touch.
#include "tests/support/fake_cuda.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace muster::test {
namespace {

TEST(FakeCuda, StreamsRunInOrderAndEventsOrderStreams) {
  FakeCuda cuda;
  CudaStream a = nullptr, b = nullptr;
  CudaEvent event = nullptr;
  ASSERT_EQ(cuda.MakeStream(&a), kCudaOk);
  ASSERT_EQ(cuda.MakeStream(&b), kCudaOk);
  ASSERT_EQ(cuda.MakeEvent(&event), kCudaOk);
  void* device = nullptr;
  ASSERT_EQ(cuda.Allocate(&device, 400), kCudaOk);
  std::vector<int> from(100, 3), to(100, 0);
  cuda.Hold();
  EXPECT_EQ(cuda.Copy(device, from.data(), 400, a), kCudaOk);
  EXPECT_EQ(cuda.Record(event, a), kCudaOk);
  EXPECT_EQ(cuda.StreamWait(b, event), kCudaOk);
  EXPECT_EQ(cuda.Copy(to.data(), device, 400, b), kCudaOk);
  bool done = true;
  EXPECT_EQ(cuda.EventDone(event, &done), kCudaOk);
  EXPECT_FALSE(done);
  EXPECT_EQ(cuda.StreamDone(b, &done), kCudaOk);
  EXPECT_FALSE(done);
  cuda.Release();
  EXPECT_EQ(cuda.Synchronize(b), kCudaOk);
  EXPECT_EQ(to, from);
  EXPECT_EQ(cuda.HostView(static_cast<int*>(device))[99], 3);
  EXPECT_EQ(cuda.EventDone(event, &done), kCudaOk);
  EXPECT_TRUE(done);
  EXPECT_EQ(cuda.Free(device), kCudaOk);
  EXPECT_EQ(cuda.DestroyStream(a), kCudaOk);
  EXPECT_EQ(cuda.allocations(), 0);
  EXPECT_EQ(cuda.streams(), 1);
}

TEST(FakeCuda, KnowsItsMemory) {
  FakeCuda cuda({.devices = 2, .device_bytes = 10'000});
  ASSERT_EQ(cuda.SetDevice(1), kCudaOk);
  void* device = nullptr;
  void* pinned = nullptr;
  void* more = nullptr;
  ASSERT_EQ(cuda.Allocate(&device, 9000), kCudaOk);
  EXPECT_NE(cuda.Allocate(&more, 9000), kCudaOk);
  ASSERT_EQ(cuda.AllocateHost(&pinned, 10), kCudaOk);
  MemoryKind kind = MemoryKind::kHost;
  int on = -1;
  EXPECT_EQ(cuda.KindOf(static_cast<char*>(device) + 8999, &kind, &on), kCudaOk);
  EXPECT_EQ(kind, MemoryKind::kDevice);
  EXPECT_EQ(on, 1);
  EXPECT_EQ(cuda.KindOf(pinned, &kind, &on), kCudaOk);
  EXPECT_EQ(kind, MemoryKind::kPinned);
  EXPECT_EQ(cuda.KindOf(&on, &kind, &on), kCudaOk);
  EXPECT_EQ(kind, MemoryKind::kHost);
  EXPECT_EQ(cuda.Free(device), kCudaOk);
  EXPECT_EQ(cuda.FreeHost(pinned), kCudaOk);
  ASSERT_EQ(cuda.SetDevice(0), kCudaOk);
}

TEST(FakeCudaDeathTest, DeviceMemoryIsNotTheHosts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  FakeCuda cuda;
  void* device = nullptr;
  ASSERT_EQ(cuda.Allocate(&device, 8), kCudaOk);
  EXPECT_DEATH(std::memset(device, 0, 8), "");
  EXPECT_DEATH(static_cast<void>(cuda.Copy(device, &device, 9, nullptr)), "9 bytes at offset 0 of an allocation of 8");
  EXPECT_DEATH(static_cast<void>(cuda.Copy(device, &device, 8, nullptr)), "the legacy default stream");
}

}  // namespace
}  // namespace muster::test
