#include "runtime/bench/allreduce.h"

#include <gtest/gtest.h>

#include <barrier>
#include <cstring>
#include <thread>

#include "tests/support/reference.h"

namespace muster::bench {
namespace {

// Ranks as threads over plain memory: what the benchmark needs of a communicator, and a switch that makes sums wrong.
struct Room {
  explicit Room(int ranks) : gate(ranks), tensors(ranks), sends(ranks) {}
  std::barrier<> gate;
  std::vector<Tensor> tensors;
  std::vector<ConstTensor> sends;
  bool drops_last_rank = false;
};

class PlainWindow final : public Window {
 public:
  explicit PlainWindow(int64_t bytes) : memory_(static_cast<size_t>(bytes)) {}
  void* data() override { return memory_.data(); }
  int64_t bytes() const override { return static_cast<int64_t>(memory_.size()); }

 private:
  std::vector<unsigned char> memory_;
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(Room& room, int rank) : room_(room), rank_(rank) {}
  int rank() const override { return rank_; }
  int world_size() const override { return static_cast<int>(room_.tensors.size()); }
  uint64_t generation() const override { return 1; }
  const Capabilities& capabilities() const override { return capabilities_; }

  absl::Status AllReduce(Tensor buffer, ReduceOp op, absl::Time) override {
    room_.tensors[rank_] = buffer;
    room_.gate.arrive_and_wait();
    std::vector<test::Bytes> vectors;
    for (const Tensor& tensor : room_.tensors) {
      const auto* data = static_cast<const unsigned char*>(tensor.data);
      vectors.emplace_back(data, data + tensor.bytes());
    }
    if (room_.drops_last_rank && buffer.type == DataType::kFloat32) vectors.pop_back();
    const test::Bytes result = test::ReferenceAllReduce(vectors, buffer.type, op);
    room_.gate.arrive_and_wait();
    std::memcpy(buffer.data, result.data(), result.size());
    return absl::OkStatus();
  }
  absl::Status AllGather(ConstTensor send, Tensor receive, absl::Time) override {
    room_.sends[rank_] = send;
    room_.gate.arrive_and_wait();
    auto* to = static_cast<unsigned char*>(receive.data);
    for (const ConstTensor& part : room_.sends)
      to = std::copy_n(static_cast<const unsigned char*>(part.data), part.bytes(), to);
    room_.gate.arrive_and_wait();
    return absl::OkStatus();
  }
  absl::Status Barrier(absl::Time) override {
    room_.gate.arrive_and_wait();
    return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<Window>> CreateWindow(int64_t bytes, absl::Time) override {
    return std::make_unique<PlainWindow>(bytes);
  }

  // The benchmark has no business with these.
  absl::Status AllReduceShards(ShardedTensor, ReduceOp, absl::Time) override { return NotHere(); }
  absl::Status Broadcast(Tensor, int, absl::Time) override { return NotHere(); }
  absl::Status ReduceScatter(Tensor, Tensor, ReduceOp, absl::Time) override { return NotHere(); }
  absl::StatusOr<std::unique_ptr<Work>> StartAllReduce(Tensor, ReduceOp, absl::Time) override { return NotHere(); }
  absl::StatusOr<std::unique_ptr<Work>> StartAllReduceShards(ShardedTensor, ReduceOp, absl::Time) override { return NotHere(); }
  absl::StatusOr<std::unique_ptr<Work>> StartBroadcast(Tensor, int, absl::Time) override { return NotHere(); }
  absl::StatusOr<std::unique_ptr<Work>> StartAllGather(ConstTensor, Tensor, absl::Time) override { return NotHere(); }
  absl::StatusOr<std::unique_ptr<Work>> StartReduceScatter(Tensor, Tensor, ReduceOp, absl::Time) override { return NotHere(); }
  absl::StatusOr<std::unique_ptr<Work>> StartBarrier(absl::Time) override { return NotHere(); }
  absl::StatusOr<std::unique_ptr<Communicator>> Split(int, int, absl::Time) override { return NotHere(); }
  void Abort(absl::Status) override {}

 private:
  static absl::Status NotHere() { return absl::UnimplementedError("not in this test"); }
  Room& room_;
  const int rank_;
  Capabilities capabilities_;
};

// The rows as rank 0 sees them.
std::vector<Row> Measure(Room& room, const Options& options) {
  std::vector<std::vector<Row>> rows(room.tensors.size());
  std::vector<std::string> warnings;
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < static_cast<int>(room.tensors.size()); ++rank) {
      threads.emplace_back([&, rank] {
        ThreadCommunicator communicator(room, rank);
        auto measured = MeasureAllReduce(
            communicator, {.ranks = communicator.world_size(), .crowded = true}, options, [](const Row&) {},
            [&](const std::string& line) {
              if (rank == 0) warnings.push_back(line);
            });
        ASSERT_TRUE(measured.ok()) << measured.status();
        rows[rank] = *measured;
      });
    }
  }
  EXPECT_EQ(warnings, std::vector<std::string>());
  return rows[0];
}

Options SmallRun() {
  Options options;
  options.bytes_min = 64;
  options.bytes_max = 4096;
  options.factor = 8;
  options.iterations = 10;
  return options;
}

TEST(MeasureAllReduce, TimesCallsAndFloorAndFindsNothingWrong) {
  for (const bool window : {true, false}) {
    Room room(3);
    Options options = SmallRun();
    options.check = true;
    options.window = window;
    const std::vector<Row> rows = Measure(room, options);
    ASSERT_EQ(rows.size(), 3u);
    for (const Row& row : rows) {
      EXPECT_EQ(row.time.calls, 10);
      EXPECT_GT(row.time.p50_us, 0);
      ASSERT_TRUE(row.floor.has_value());
      EXPECT_EQ(row.floor->calls, 10);
      EXPECT_GT(row.floor->p50_us, 0);
      EXPECT_EQ(row.wrong, 0);
    }
  }
}

TEST(MeasureAllReduce, CountsWrongElementsOfAllRanks) {
  Room room(2);
  room.drops_last_rank = true;
  Options options = SmallRun();
  options.check = true;
  options.warmup = 0;
  const std::vector<Row> rows = Measure(room, options);
  EXPECT_EQ(rows[0].wrong, 2 * 10 * 16);  // ranks, calls, elements
}

TEST(MeasureAllReduce, BackToBackHasNoFloor) {
  Room room(2);
  Options options = SmallRun();
  options.fresh = false;
  const std::vector<Row> rows = Measure(room, options);
  for (const Row& row : rows) {
    EXPECT_EQ(row.time.calls, 10);
    EXPECT_FALSE(row.floor.has_value());
    EXPECT_FALSE(row.wrong.has_value());
  }
}

}  // namespace
}  // namespace muster::bench
