// Collectives on device memory: in place, in order with the caller's streams, and with the results that are promised.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "muster/device.h"
#include "tests/support/device_buffer.h"
#include "tests/support/fake_kernels.h"
#include "tests/support/fake_nccl.h"
#include "tests/support/reference.h"

namespace muster::test {
namespace {

using testing::HasSubstr;

class NcclDevice : public testing::Test {
 protected:
  static constexpr int kRanks = 3;

  void Run(const std::function<void(Communicator&)>& body, const std::function<void(int, NcclOptions&)>& change = nullptr) {
    RunNcclRanks(cuda_, nccl_, node_, body, change);
  }

  std::atomic<int64_t> copies_{0};
  FakeCuda cuda_{{.devices = kRanks, .device_bytes = 64 << 20, .fails = [this](const std::string& call, int) {
                    copies_ += call == "Copy" ? 1 : 0;
                    return kCudaOk;
                  }}};
  FakeNccl nccl_{cuda_};
  FakeNode node_{{.ranks = kRanks}};
};

TEST_F(NcclDevice, RunsInPlace) {
  Run([this](Communicator& comm) {
    const int rank = comm.rank();
    DeviceBuffer a(cuda_, rank, 4000), part(cuda_, rank, 400), all(cuda_, rank, 1200);
    for (int i = 0; i < 1000; ++i) a.view<float>()[i] = static_cast<float>(rank + i);
    ASSERT_TRUE(comm.AllReduce(MakeTensor(a.data<float>(), 1000), ReduceOp::kSum).ok());
    for (int i = 0; i < 1000; ++i) ASSERT_EQ(a.view<float>()[i], static_cast<float>(3 + 3 * i));
    ASSERT_TRUE(comm.AllReduce(MakeTensor(a.data<float>(), 1000), ReduceOp::kAvg).ok());
    EXPECT_NEAR(a.view<float>()[10], 33, 1e-4);
    if (rank == 1) a.view<float>()[999] = -4;
    ASSERT_TRUE(comm.Broadcast(MakeTensor(a.data<float>(), 1000), 1).ok());
    EXPECT_EQ(a.view<float>()[999], -4);
    std::fill_n(part.view<int32_t>(), 100, rank);
    ASSERT_TRUE(comm.AllGather(MakeTensor(part.data<int32_t>(), 100), MakeTensor(all.data<int32_t>(), 300)).ok());
    for (int i = 0; i < 300; ++i) ASSERT_EQ(all.view<int32_t>()[i], i / 100);
    ASSERT_TRUE(
        comm.ReduceScatter(MakeTensor(all.data<int32_t>(), 300), MakeTensor(part.data<int32_t>(), 100), ReduceOp::kMax).ok());
    for (int i = 0; i < 100; ++i) ASSERT_EQ(part.view<int32_t>()[i], rank);
  });
  EXPECT_EQ(copies_, 0);
}

TEST_F(NcclDevice, IsOrderedByTheCallersStreams) {
  std::atomic<bool> go{false};
  Run([&](Communicator& comm) {
    const int rank = comm.rank();
    DeviceCollectives* const device = comm.capabilities().device;
    ASSERT_NE(device, nullptr);
    EXPECT_EQ(device->device(), rank);
    DeviceBuffer a(cuda_, rank, 8), b(cuda_, rank, 8);
    CudaStream stream = nullptr;
    ASSERT_EQ(cuda_.MakeStream(&stream), kCudaOk);
    device->SetStream(stream);
    // Backward's kernels, of which none has run when the collectives are called.
    cuda_.Enqueue(stream, [&, to = a.view<int64_t>()] {
      while (!go) std::this_thread::yield();
      *to = 5;
    });
    auto first = comm.StartAllReduce(MakeTensor(a.data<int64_t>(), 1), ReduceOp::kSum);
    ASSERT_TRUE(first.ok()) << first.status();
    cuda_.Enqueue(stream, [to = b.view<int64_t>()] { *to = 6; });
    auto second = comm.StartAllReduce(MakeTensor(b.data<int64_t>(), 1), ReduceOp::kSum);
    ASSERT_TRUE(second.ok()) << second.status();
    // Both are on the communicator's stream, and what follows waits there, not here.
    ASSERT_TRUE(device->Follow(**first, stream).ok());
    ASSERT_TRUE(device->Follow(**second, stream).ok());
    int64_t seen[2] = {0, 0};
    cuda_.Enqueue(stream, [&seen, x = a.view<int64_t>(), y = b.view<int64_t>()] {
      seen[0] = *x;
      seen[1] = *y;
    });
    if (rank == 0) {  // nothing can have run before it lets all go
      EXPECT_FALSE((*first)->IsDone());
      EXPECT_FALSE((*second)->IsDone());
      go = true;
    }
    EXPECT_EQ(cuda_.Synchronize(stream), kCudaOk);
    EXPECT_EQ(seen[0], 15);
    EXPECT_EQ(seen[1], 18);
    EXPECT_TRUE((*first)->Wait().ok());
    EXPECT_TRUE((*second)->Wait().ok());
    EXPECT_TRUE(device->Follow(**first, stream).ok()) << "what is done is followed at once";
    // Through the host: waits for the stream as well.
    cuda_.Enqueue(stream, [to = a.view<double>()] { *to = -0.5; });
    EXPECT_TRUE(comm.AllReduce(MakeTensor(a.data<double>(), 1), ReduceOp::kMin).ok());
    EXPECT_EQ(*a.view<double>(), -0.5);
    EXPECT_EQ(cuda_.DestroyStream(stream), kCudaOk);
  });
}

// NCCL passes NaN by and does not tell -0 from +0; it has no sums over shards.
TEST_F(NcclDevice, WhatNcclDoesOtherwisePassesTheHost) {
  static constexpr int64_t kCount = 3000;
  static constexpr int kShards = 8;
  Run([this](Communicator& comm) {
    for (const DataType type : {DataType::kFloat32, DataType::kFloat64, DataType::kBFloat16, DataType::kFloat16}) {
      for (const ReduceOp op : {ReduceOp::kMin, ReduceOp::kMax}) {
        std::vector<Bytes> ranks;
        for (int rank = 0; rank < kRanks; ++rank) ranks.push_back(SpecialVector(23, rank, type, kCount));
        const Bytes& own = ranks[static_cast<size_t>(comm.rank())];
        DeviceBuffer a(cuda_, comm.rank(), static_cast<int64_t>(own.size()));
        std::memcpy(a.view<char>(), own.data(), own.size());
        ASSERT_TRUE(comm.AllReduce({a.data<void>(), kCount, type}, op).ok());
        EXPECT_EQ(Difference(ReferenceAllReduce(ranks, type, op), a.view<void>(), type), "") << Describe(type, op);
      }
    }
    std::vector<Bytes> leaves;
    for (int shard = 0; shard < kShards; ++shard) leaves.push_back(TestVector(5, shard, DataType::kInt64, ReduceOp::kSum, 100));
    const std::vector<Bytes> own = ReferencePartials(leaves, kRanks, comm.rank(), DataType::kInt64, ReduceOp::kSum);
    DeviceBuffer rows(cuda_, comm.rank(), 832 * static_cast<int64_t>(own.size()));
    for (size_t i = 0; i < own.size(); ++i) std::memcpy(rows.view<char>() + 832 * i, own[i].data(), own[i].size());
    ASSERT_TRUE(comm.AllReduceShards({rows.data<void>(), 100, 832, DataType::kInt64, kShards}, ReduceOp::kSum).ok());
    EXPECT_EQ(Difference(ReferenceAllReduce(leaves, DataType::kInt64, ReduceOp::kSum), rows.view<void>(), DataType::kInt64),
              "");
  });
  EXPECT_GT(copies_, 0);
}

TEST_F(NcclDevice, BuffersMayLieHereOnOneRankAndThereOnAnother) {
  Run([this](Communicator& comm) {
    const int64_t count = 2'000'003;  // in pieces
    DeviceBuffer there(cuda_, comm.rank(), 4 * count);
    std::vector<float> here(count);
    float* const data = comm.rank() == 1 ? here.data() : there.data<float>();
    float* const view = comm.rank() == 1 ? here.data() : there.view<float>();
    for (int64_t i = 0; i < count; ++i) view[i] = static_cast<float>(comm.rank() + i % 1000);
    ASSERT_TRUE(comm.AllReduce(MakeTensor(data, count), ReduceOp::kSum).ok());
    for (int64_t i = 0; i < count; ++i) ASSERT_EQ(view[i], static_cast<float>(3 + 3 * (i % 1000))) << i;
  });
}

TEST_F(NcclDevice, KernelsAddShardsOnTheDevice) {
  FakeKernels kernels(cuda_);
  Run(
      [this](Communicator& comm) {
        DeviceBuffer rows(cuda_, comm.rank(), 3 * 832);
        const auto own = static_cast<int>(OwnedPartials(8, kRanks, comm.rank()).size());
        for (int row = 0; row < own; ++row) std::fill_n(rows.view<double>() + row * 104, 100, 8.0);
        ASSERT_TRUE(comm.AllReduceShards({rows.data<void>(), 100, 832, DataType::kFloat64, 8}, ReduceOp::kAvg).ok());
        std::vector<int32_t> partials(kRanks);
        ASSERT_TRUE(comm.AllGather({&own, 1, DataType::kInt32}, MakeTensor(partials.data(), kRanks)).ok());
        const double sum = 8.0 * (partials[0] + partials[1] + partials[2]);
        EXPECT_EQ(rows.view<double>()[0], sum / 8);
        EXPECT_EQ(rows.view<double>()[99], sum / 8);
      },
      [&](int, NcclOptions& options) { options.kernels = &kernels; });
}

TEST_F(NcclDevice, AnotherGpusMemoryIsRefused) {
  Run([this](Communicator& comm) {
    const int other = (comm.rank() + 1) % kRanks;
    DeviceBuffer a(cuda_, other, 40);
    ASSERT_EQ(cuda_.SetDevice(comm.rank()), kCudaOk);
    const absl::Status status = comm.AllReduce(MakeTensor(a.data<float>(), 10), ReduceOp::kSum);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("a buffer lies on GPU"));
    EXPECT_TRUE(comm.Barrier().ok());
  });
}

TEST_F(NcclDevice, WindowsAreZeroedAndKnownToNccl) {
  Run([this](Communicator& comm) {
    DeviceCollectives& device = *comm.capabilities().device;
    {
      auto window = device.CreateDeviceWindow(100'000);
      ASSERT_TRUE(window.ok()) << window.status();
      auto* const data = static_cast<float*>((*window)->data());
      EXPECT_EQ(cuda_.HostView(data)[24'999], 0.0f);
      EXPECT_GE(nccl_.registered(), 1);
      cuda_.HostView(data)[7] = 1;
      ASSERT_TRUE(comm.AllReduce(MakeTensor(data, 25'000), ReduceOp::kSum).ok());
      EXPECT_EQ(cuda_.HostView(data)[7], 3.0f);
      ASSERT_TRUE(comm.Barrier().ok());
    }
    const absl::Status status = device.CreateDeviceWindow(1 << 30).status();
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 0 has no device memory for a window of 1073741824 bytes"));
    EXPECT_TRUE(comm.Barrier().ok());
  });
  EXPECT_EQ(nccl_.registered(), 0);
  EXPECT_EQ(cuda_.allocations(), 0);
}

}  // namespace
}  // namespace muster::test
