// Calls that differ between ranks are named by every rank, whatever the sizes and algorithms; none hangs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/support/fake_node.h"

namespace muster::test {
namespace {

using testing::HasSubstr;

using Call = std::function<absl::Status(Communicator&, std::vector<float>&)>;

Call AllReduceOf(int64_t count, ReduceOp op = ReduceOp::kSum) {
  return [=](Communicator& comm, std::vector<float>& data) { return comm.AllReduce(MakeTensor(data.data(), count), op); };
}

// Every rank gets the same InvalidArgument, and the agent hears of rank `odd`.
void ExpectNamed(int ranks, int odd, const Call& theirs, const Call& others, const std::string& message) {
  FakeNode node({.ranks = ranks});
  std::vector<absl::Status> statuses(static_cast<size_t>(ranks));
  RunRanks(node, [&](Communicator& comm) {
    std::vector<float> data(1 << 18, 1.0f);
    ASSERT_TRUE(AllReduceOf(4)(comm, data).ok());
    absl::Status& status = statuses[static_cast<size_t>(comm.rank())];
    status = (comm.rank() == odd ? theirs : others)(comm, data);
    EXPECT_EQ(comm.Barrier(), status);
  });
  for (const absl::Status& status : statuses) {
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_EQ(status, statuses[0]);
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
  EXPECT_EQ(node.blames().size(), static_cast<size_t>(ranks));
  for (const FakeBlame& blame : node.blames()) {
    EXPECT_EQ(blame.rank, static_cast<uint32_t>(odd));
    EXPECT_EQ(blame.reason, v1::AbortReason::kMismatch);
  }
}

TEST(Mismatch, OfKind) {
  const Call gather = [](Communicator& comm, std::vector<float>& data) {
    return comm.AllGather(MakeTensor(data.data() + 8192, 1024), MakeTensor(data.data(), 1024 * comm.world_size()));
  };
  ExpectNamed(4, 3, gather, AllReduceOf(4096), "rank 3 called all_gather of 1024 f32, the others all_reduce of 4096 f32");
  const Call barrier = [](Communicator& comm, std::vector<float>&) { return comm.Barrier(); };
  ExpectNamed(3, 0, barrier, AllReduceOf(100'000), "rank 0 called barrier, the others all_reduce of 100000 f32");
}

TEST(Mismatch, OfCountAcrossAlgorithms) {
  const int64_t counts[] = {0, 2, 1000, 100'000};
  for (int64_t a : counts) {
    for (int64_t b : counts) {
      if (a != b) ExpectNamed(3, 1, AllReduceOf(a), AllReduceOf(b), "rank 1 called all_reduce of " + std::to_string(a));
    }
  }
  ExpectNamed(2, 1, AllReduceOf(2), AllReduceOf(3), "rank 1 called all_reduce of 2 f32, rank 0 all_reduce of 3 f32");
}

TEST(Mismatch, OfTypeOperationAndRoot) {
  const Call of_int32 = [](Communicator& comm, std::vector<float>& data) {
    return comm.AllReduce({data.data(), 10, DataType::kInt32}, ReduceOp::kSum);
  };
  ExpectNamed(3, 2, of_int32, AllReduceOf(10), "rank 2 called all_reduce of 10 i32, the others all_reduce of 10 f32");
  ExpectNamed(3, 2, AllReduceOf(10, ReduceOp::kMax), AllReduceOf(10),
              "all_reduce of 10 f32, max, the others all_reduce of 10 f32, sum");
  auto from = [](int root) {
    return [root](Communicator& comm, std::vector<float>& data) { return comm.Broadcast(MakeTensor(data.data(), 10), root); };
  };
  ExpectNamed(3, 1, from(2), from(0),
              "rank 1 called broadcast of 10 f32 from root 2, the others broadcast of 10 f32 from root 0");
}

TEST(Mismatch, OfShardsAndWindows) {
  auto over = [](int shards) {
    return [shards](Communicator& comm, std::vector<float>& data) {
      return comm.AllReduceShards({data.data(), 16, 64, DataType::kFloat32, shards}, ReduceOp::kSum);
    };
  };
  ExpectNamed(2, 1, over(4), over(8), "over 4 shards");
  auto window_of = [](int64_t bytes) {
    return [bytes](Communicator& comm, std::vector<float>&) { return comm.CreateWindow(bytes).status(); };
  };
  ExpectNamed(3, 1, window_of(8192), window_of(4096),
              "rank 1 called create_window of 8192 bytes, the others create_window of 4096");
}

TEST(Mismatch, OfStartedOperations) {
  const Call started = [](Communicator& comm, std::vector<float>& data) {
    auto work = comm.StartAllReduce(MakeTensor(data.data(), 9), ReduceOp::kSum);
    return work.ok() ? (*work)->Wait() : work.status();
  };
  ExpectNamed(3, 1, started, AllReduceOf(8), "rank 1 called all_reduce of 9 f32");
}

}  // namespace
}  // namespace muster::test
