// Collectives whose buffers are in host memory on all ranks: they are the native backend's, in order with those on the GPU, and fail as
// those do. And what is staged because the ranks' buffers lie in different places.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "muster/device.h"
#include "runtime/base/clock.h"
#include "tests/support/device_buffer.h"
#include "tests/support/fake_nccl.h"

namespace muster::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class NcclHost : public testing::Test {
 protected:
  static constexpr int kRanks = 3;

  void Run(const std::function<void(Communicator&)>& body, const std::function<void(int, NcclOptions&)>& change = nullptr) {
    RunNcclRanks(cuda_, nccl_, node_, body, change);
  }

  int64_t Count(const std::string& call) {
    MutexLock lock(mutex_);
    return calls_[call];
  }

  Mutex mutex_;
  std::map<std::string, int64_t> calls_ ABSL_GUARDED_BY(mutex_);  // of CUDA
  std::function<int(const std::string& call, int device)> fails_;
  std::atomic<int64_t> collectives_{0};  // of NCCL
  FakeCuda cuda_{{.devices = kRanks, .fails = [this](const std::string& call, int device) {
                    {
                      MutexLock lock(mutex_);
                      ++calls_[call];
                    }
                    return fails_ ? fails_(call, device) : kCudaOk;
                  }}};
  FakeNccl nccl_{cuda_, {.runs = [this](int, int64_t) {
                   ++collectives_;
                   return kNcclOk;
                 }}};
  FakeNode node_{{.ranks = kRanks}};
};

// Values whose sums depend on the order of additions.
std::vector<float> ValuesOf(int rank, size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = 1.0f / static_cast<float>(1 + rank + i % 977);
  return values;
}

// What a rank's collectives leave behind.
std::vector<float> Results(Communicator& comm) {
  constexpr int64_t kCount = 30'000;
  std::vector<float> all;
  const auto keep = [&all](const float* values, int64_t count) { all.insert(all.end(), values, values + count); };
  std::vector<float> sum = ValuesOf(comm.rank(), kCount);
  EXPECT_TRUE(comm.AllReduce(MakeTensor(sum.data(), kCount), ReduceOp::kSum).ok());
  keep(sum.data(), kCount);
  auto window = comm.CreateWindow(4 * kCount);
  EXPECT_TRUE(window.ok()) << window.status();
  auto* const in_window = static_cast<float*>((*window)->data());
  sum = ValuesOf(comm.rank() + 3, kCount);
  std::copy(sum.begin(), sum.end(), in_window);
  auto work = comm.StartAllReduce(MakeTensor(in_window, kCount), ReduceOp::kAvg);
  EXPECT_TRUE(work.ok() && (*work)->Wait().ok());
  keep(in_window, kCount);
  EXPECT_TRUE(comm.AllReduceShards({in_window, 2000, 8000, DataType::kFloat32, 4}, ReduceOp::kSum).ok());
  keep(in_window, 2000);
  EXPECT_TRUE(comm.ReduceScatter(MakeTensor(sum.data(), kCount), MakeTensor(in_window, kCount / 3), ReduceOp::kProd).ok());
  keep(in_window, kCount / 3);
  EXPECT_TRUE(comm.AllGather(MakeTensor(in_window, 100), MakeTensor(sum.data(), 300)).ok());
  keep(sum.data(), 300);
  EXPECT_TRUE(comm.Broadcast(MakeTensor(sum.data(), 300), 2).ok());
  keep(sum.data(), 300);
  return all;
}

TEST_F(NcclHost, HasTheBitsOfTheNativeBackendAndLeavesTheGpuAlone) {
  std::vector<std::vector<float>> native(kRanks);
  RunRanks(kRanks, [&](Communicator& comm) { native[static_cast<size_t>(comm.rank())] = Results(comm); });
  Run([&](Communicator& comm) {
    EXPECT_TRUE(comm.capabilities().bits_follow_canonical_tree);
    const std::vector<float> own = Results(comm);
    const std::vector<float>& wanted = native[static_cast<size_t>(comm.rank())];
    ASSERT_EQ(own.size(), wanted.size());
    EXPECT_EQ(std::memcmp(own.data(), wanted.data(), own.size() * sizeof(float)), 0);
    auto half = comm.Split(comm.rank() % 2, 0);
    ASSERT_TRUE(half.ok()) << half.status();
    int64_t ones = 1;
    EXPECT_TRUE((*half)->AllReduce(MakeTensor(&ones, 1), ReduceOp::kSum).ok());
    EXPECT_EQ(ones, (*half)->world_size());
  });
  EXPECT_EQ(collectives_, 0);
  for (const char* call : {"Copy", "Allocate", "AllocateHost", "Enqueue"}) EXPECT_EQ(Count(call), 0) << call;
}

TEST_F(NcclHost, WindowsArePinnedWhereThatIsPossible) {
  fails_ = [](const std::string& call, int device) { return call == "Pin" && device == 1 ? 1 : kCudaOk; };
  Run([this](Communicator& comm) {
    auto window = comm.CreateWindow(100'000);
    ASSERT_TRUE(window.ok()) << window.status();
    MemoryKind kind = MemoryKind::kDevice;
    int device = 0;
    ASSERT_EQ(cuda_.KindOf(static_cast<char*>((*window)->data()) + 99'999, &kind, &device), kCudaOk);
    EXPECT_EQ(kind, comm.rank() == 1 ? MemoryKind::kHost : MemoryKind::kPinned);
    EXPECT_TRUE(comm.AllReduce(MakeTensor(static_cast<float*>((*window)->data()), 25'000), ReduceOp::kSum).ok());
  });
  EXPECT_EQ(Count("Pin"), kRanks);
  EXPECT_EQ(Count("Unpin"), kRanks - 1);
  EXPECT_EQ(collectives_, 0);
  EXPECT_EQ(cuda_.allocations(), 0);
}

// What was started first is done first, wherever its buffers lie.
TEST_F(NcclHost, IsInOrderWithWhatRunsOnTheGpu) {
  std::atomic<bool> go{false};
  Run([&](Communicator& comm) {
    DeviceBuffer there(cuda_, comm.rank(), 8);
    int64_t here[2] = {1, 1};
    CudaStream stream = nullptr;
    ASSERT_EQ(cuda_.MakeStream(&stream), kCudaOk);
    comm.capabilities().device->SetStream(stream);
    cuda_.Enqueue(stream, [&, to = there.view<int64_t>()] {
      while (!go) ::sched_yield();
      *to = 5;
    });
    std::vector<std::unique_ptr<Work>> works;
    for (int64_t* const buffer : {there.data<int64_t>(), &here[0], there.data<int64_t>(), &here[1]}) {
      auto work = comm.StartAllReduce(MakeTensor(buffer, 1), ReduceOp::kSum);
      ASSERT_TRUE(work.ok()) << work.status();
      works.push_back(*std::move(work));
    }
    if (comm.rank() == 0) {
      for (int look = 0; look < 10'000; ++look) {
        ASSERT_FALSE(works[1]->IsDone()) << "before the one on the GPU has run";
        ::sched_yield();
      }
      go = true;
    }
    for (size_t last = works.size(); last-- > 0;) {
      ASSERT_TRUE(works[last]->Wait().ok());
      for (size_t i = 0; i <= last; ++i) EXPECT_TRUE(works[i]->IsDone()) << i << " behind " << last;
    }
    EXPECT_EQ(*there.view<int64_t>(), 45);
    EXPECT_EQ(here[0], kRanks);
    EXPECT_EQ(here[1], kRanks);
    comm.capabilities().device->SetStream(nullptr);
    EXPECT_EQ(cuda_.DestroyStream(stream), kCudaOk);
  });
  EXPECT_EQ(collectives_, 2 * kRanks);
}

TEST_F(NcclHost, ALostRankEndsItByName) {
  Run([this](Communicator& comm) {
    std::vector<float> data(100, 1.0f);
    ASSERT_TRUE(comm.AllReduce(MakeTensor(data.data(), 100), ReduceOp::kSum).ok());
    if (comm.rank() == 2) node_.Kill(2);
    absl::Status status;
    while (status.ok()) status = comm.AllReduce(MakeTensor(data.data(), 100), ReduceOp::kSum);
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 2 (fake-host): lost"));
    EXPECT_EQ(comm.Barrier(), status);
    DeviceBuffer there(cuda_, comm.rank(), 4);
    EXPECT_EQ(comm.AllReduce(MakeTensor(there.data<float>(), 1), ReduceOp::kSum), status);
  });
}

TEST_F(NcclHost, AnAbortEndsIt) {
  std::atomic<int> called{0};
  Run([&](Communicator& comm) {
    if (comm.rank() == 0) {
      while (called < kRanks - 1) ::sched_yield();
      comm.Abort(absl::AbortedError("the disk is full"));
    }
    std::vector<float> data(100, 1.0f);
    auto started = comm.StartAllReduce(MakeTensor(data.data(), 100), ReduceOp::kSum);
    ASSERT_TRUE(started.ok());
    ++called;
    const absl::Status status = (*started)->Wait();
    EXPECT_TRUE(absl::IsAborted(status)) << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("rank 0"), HasSubstr("aborted: the disk is full")));
    EXPECT_EQ(comm.Barrier(), status);
  });
}

// Rank 1 has called, as the comparison of calls shows, and then does not come.
TEST_F(NcclHost, AHangEndsAndNamesWhoIsMissing) {
  std::atomic<bool> held{false}, go{false};
  std::atomic<int> ended{0};
  fails_ = [&](const std::string& call, int device) {  // its watch does not come to see that the collective before has ended
    if (call == "EventDone" && device == 1 && held) {
      while (!go) ::sched_yield();
    }
    return kCudaOk;
  };
  const std::atomic<int64_t> standing = MonotonicNanoseconds();
  Run(
      [&](Communicator& comm) {
        DeviceBuffer there(cuda_, comm.rank(), 4);
        held = true;
        auto before = comm.StartAllReduce(MakeTensor(there.data<float>(), 1), ReduceOp::kSum);
        ASSERT_TRUE(before.ok());
        std::vector<float> data(100, 1.0f);
        auto started = comm.StartAllReduce(MakeTensor(data.data(), 100), ReduceOp::kSum);
        ASSERT_TRUE(started.ok());
        const absl::Status status = (*started)->Wait();
        EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
        EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 (fake-host) had not arrived"));
        if (++ended == kRanks - 1) go = true;
      },
      [&](int, NcclOptions& options) {
        options.now = [&standing] { return standing.load(); };  // on the GPU nothing is late
        options.hang_limit = absl::Milliseconds(50);
      });
}

TEST_F(NcclHost, ADeadlineHoldsBehindWhatHangsOnTheGpu) {
  FakeNccl hanging(cuda_, {.runs = [](int, int64_t) { return kNcclHangs; }});
  RunNcclRanks(cuda_, hanging, node_, [this](Communicator& comm) {
    DeviceBuffer there(cuda_, comm.rank(), 4);
    auto before = comm.StartAllReduce(MakeTensor(there.data<float>(), 1), ReduceOp::kSum);
    ASSERT_TRUE(before.ok());
    std::vector<float> data(100, 1.0f);
    auto started = comm.StartAllReduce(MakeTensor(data.data(), 100), ReduceOp::kSum, absl::Now() + absl::Milliseconds(20));
    ASSERT_TRUE(started.ok());
    const absl::Status status = (*started)->Wait();
    EXPECT_TRUE(absl::IsDeadlineExceeded(status) || absl::IsAborted(status)) << status;
    EXPECT_EQ((*before)->Wait(), status);
  });
}

// --- Here on one rank, there on another ---

TEST_F(NcclHost, WithoutMemoryToStageInItIsRefusedOnAllRanksAndHarmsNothing) {
  std::atomic<bool> full{true};
  fails_ = [&](const std::string& call, int device) { return full && device == 1 && call == "AllocateHost" ? 2 : kCudaOk; };
  Run([&](Communicator& comm) {
    DeviceBuffer there(cuda_, comm.rank(), 4000);
    std::vector<float> here(1000, 1.0f);
    std::fill_n(there.view<float>(), 1000, 1.0f);
    const Tensor buffer = MakeTensor(comm.rank() == 0 ? here.data() : there.data<float>(), 1000);
    const float* const view = comm.rank() == 0 ? here.data() : there.view<float>();
    const absl::Status status = comm.AllReduce(buffer, ReduceOp::kSum);
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 has no 4194304 bytes each of pinned and device memory"));
    EXPECT_EQ(view[999], 1.0f);
    std::vector<float> both(10, 1.0f);
    EXPECT_TRUE(comm.AllReduce(MakeTensor(both.data(), 10), ReduceOp::kSum).ok());
    if (comm.rank() == 1) full = false;
    ASSERT_TRUE(comm.Barrier().ok());
    EXPECT_TRUE(comm.AllReduce(buffer, ReduceOp::kSum).ok());
    EXPECT_EQ(view[999], static_cast<float>(kRanks));
  });
  EXPECT_EQ(cuda_.allocations(), 0);
}

}  // namespace
}  // namespace muster::test
