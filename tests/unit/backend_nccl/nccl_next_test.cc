// The generation after a failure: what is left of NCCL's communicator is shrunk where all ranks have kept it, else NCCL starts anew.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "runtime/backend/native/native.h"
#include "runtime/backend/nccl/nccl_seats.h"
#include "tests/support/device_buffer.h"
#include "tests/support/fake_nccl.h"

namespace muster::test {
namespace {

class NcclNext : public testing::Test {
 protected:
  // Rank 2 of three dies within a collective; the others go on as two. Returns what rank 0 called.
  std::vector<std::string> Survive(FakeNcclOptions options) {
    FakeCuda cuda({.devices = 3});
    FakeNode before({.ranks = 3}), after({.ranks = 2, .generation = 8});
    std::atomic<bool> again{false};
    options.runs = [&](int rank, int64_t) {
      if (again) return kNcclOk;
      if (rank == 2) before.Kill(2);
      return kNcclHangs;
    };
    FakeNccl nccl(cuda, std::move(options));
    RunNcclRanks(
        cuda, nccl, before,
        [&](Communicator& comm) {
          DeviceBuffer data(cuda, comm.rank(), 40);
          const absl::Status status = comm.AllReduce(MakeTensor(data.data<float>(), 10), ReduceOp::kSum);
          EXPECT_TRUE(absl::IsUnavailable(status)) << status;
          if (comm.rank() == 2) return;
          NcclOptions next;
          next.nccl = nccl.api(comm.rank());
          next.cuda = std::shared_ptr<CudaApi>(&cuda, [](CudaApi*) {});
          next.control = after.Join(comm.rank());
          next.device = comm.rank();
          next.before = &comm;
          next.lost = {2};
          next.interrupted = WhyNativeIsOver;
          auto ids = ExchangeNcclIds(*next.nccl, *next.control, absl::InfiniteFuture());
          ASSERT_TRUE(ids.ok()) << ids.status();
          next.ids = *std::move(ids);
          again = true;
          auto made = CreateNcclCommunicator(std::move(next));
          ASSERT_TRUE(made.ok()) << made.status();
          EXPECT_EQ((*made)->world_size(), 2);
          EXPECT_EQ((*made)->generation(), 8u);
          std::fill_n(data.view<float>(), 10, 1.0f);
          EXPECT_TRUE((*made)->AllReduce(MakeTensor(data.data<float>(), 10), ReduceOp::kSum).ok());
          EXPECT_EQ(data.view<float>()[9], 2.0f);
        },
        [](int, NcclOptions& options) { options.keeps_for_next = true; });
    EXPECT_EQ(nccl.communicators(), 0);
    EXPECT_EQ(cuda.allocations(), 0);
    return nccl.calls(0);
  }

  static int64_t Count(const std::vector<std::string>& calls, const std::string& call) {
    return std::count(calls.begin(), calls.end(), call);
  }
};

TEST_F(NcclNext, ShrinksWhereTheLibraryCan) {
  const std::vector<std::string> calls = Survive({});
  EXPECT_EQ(Count(calls, "Revoke"), 1);
  EXPECT_EQ(Count(calls, "Shrink"), 1);
  EXPECT_EQ(Count(calls, "Init with 1"), 1);
  EXPECT_EQ(Count(calls, "Abort"), 1) << "of what was left";
}

TEST_F(NcclNext, StartsAnewWhereTheLibraryCannot) {
  FakeNcclOptions options;
  options.powers.shrinks = false;
  const std::vector<std::string> calls = Survive(options);
  EXPECT_EQ(Count(calls, "Revoke"), 0);
  EXPECT_EQ(Count(calls, "Shrink"), 0);
  EXPECT_EQ(Count(calls, "Init with 1"), 2);
  EXPECT_EQ(Count(calls, "Abort"), 1);
}

TEST_F(NcclNext, StartsAnewWhereOneRankCouldNotKeepIt) {
  FakeNcclOptions options;
  options.revoke_fails = [](int rank) { return rank == 1; };
  const std::vector<std::string> calls = Survive(options);
  EXPECT_EQ(Count(calls, "Revoke"), 1);
  EXPECT_EQ(Count(calls, "Shrink"), 0);
  EXPECT_EQ(Count(calls, "Init with 1"), 2);
}

}  // namespace
}  // namespace muster::test
