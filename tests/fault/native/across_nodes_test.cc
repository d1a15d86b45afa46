// What callers see when something happens on another node: every blocked call returns, on every node, and names the rank of the
// world that it should.
//
// MUSTER_TEST_SEED replays a run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/fake_node.h"

namespace muster::test {
namespace {

using testing::HasSubstr;

uint64_t Seed() {
  static const uint64_t seed = [] {
    const char* text = std::getenv("MUSTER_TEST_SEED");
    return text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device()();
  }();
  return seed;
}

FakeClusterOptions ClusterOf(std::vector<int> ranks) {
  FakeClusterOptions options;
  options.ranks = std::move(ranks);
  options.node.staging_bytes = 16 * 1024;
  return options;
}

// A call of every kind and algorithm in turn, on a rank's own buffers.
class Calls {
 public:
  explicit Calls(Communicator& comm)
      : comm_(comm), values_(60'000, 1.0f), parts_(static_cast<size_t>(20'000 * comm.world_size()), 0.0f) {
    auto window = comm.CreateWindow(1 << 20);
    if (window.ok()) window_ = *std::move(window);
  }

  absl::Status Next() {
    const int64_t world = comm_.world_size();
    const int turn = turn_++ % 8;
    if (turn == 4 && window_ != nullptr) {
      return comm_.AllReduce(MakeTensor(static_cast<float*>(window_->data()), 100'000), ReduceOp::kSum);
    }
    switch (turn) {
      case 0:
        return comm_.AllReduce(MakeTensor(values_.data(), 2), ReduceOp::kSum);
      case 1:
        return comm_.AllReduce(MakeTensor(values_.data(), 1000), ReduceOp::kSum);
      case 2:
        return comm_.Broadcast(MakeTensor(values_.data(), 60'000), 1);
      case 3:
        return comm_.AllReduce(MakeTensor(values_.data(), 60'000), ReduceOp::kMax);
      case 5:
        return comm_.AllGather(MakeTensor(values_.data(), 15'000), MakeTensor(parts_.data(), 15'000 * world));
      case 6: {
        auto work = comm_.StartReduceScatter(MakeTensor(parts_.data(), 20'000 * world), MakeTensor(values_.data(), 20'000),
                                             ReduceOp::kMin);
        return work.ok() ? (*work)->Wait() : work.status();
      }
      default:
        return comm_.Barrier();
    }
  }

 private:
  Communicator& comm_;
  std::vector<float> values_;
  std::vector<float> parts_;
  std::unique_ptr<Window> window_;
  int turn_ = 0;
};

// A rank dies at a random call, or between two that it makes, or in the middle of one.
TEST(DeathElsewhere, EveryRankOfEveryNodeNamesTheDeadRank) {
  std::mt19937_64 random(Seed());
  const std::vector<std::vector<int>> layouts = {{1, 1}, {2, 2}, {3, 1}, {1, 2, 2}};
  for (int round = 0; round < 120; ++round) {
    FakeCluster cluster(ClusterOf(layouts[random() % layouts.size()]));
    const int dead = static_cast<int>(random() % static_cast<uint64_t>(cluster.world_size()));
    const int stops_at = random() % 3 == 0 ? -1 : static_cast<int>(random() % 40);
    const uint64_t killed_after = random() % 150;
    std::atomic<uint64_t> calls{0};
    std::atomic<bool> stopped{false};
    std::thread agent([&] {
      while (!stopped && calls < killed_after) ::sched_yield();
      cluster.Kill(dead);
    });
    std::vector<std::thread> threads;
    for (int rank = 0; rank < cluster.world_size(); ++rank) {
      threads.emplace_back([&, rank] {
        auto comm = cluster.Join(rank);
        Calls mine(*comm);
        for (int i = 0;; ++i) {
          if (rank == dead && i == stops_at) {
            stopped = true;
            // A killed process says nothing any more.
            while (cluster.node(cluster.node_of(rank)).control()->abort_word.load() == v1::kNoAbort) ::sched_yield();
            return;
          }
          const absl::Status status = mine.Next();
          ++calls;
          if (status.ok()) continue;
          EXPECT_TRUE(absl::IsUnavailable(status)) << status << "; MUSTER_TEST_SEED=" << Seed() << " round " << round;
          EXPECT_THAT(std::string(status.message()), HasSubstr("rank " + std::to_string(dead)))
              << "MUSTER_TEST_SEED=" << Seed() << " round " << round;
          EXPECT_THAT(std::string(status.message()), HasSubstr(": lost"));
          EXPECT_EQ(comm->Barrier(), status);
          return;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    agent.join();
    for (const FakeBlame& blame : cluster.blames()) {
      EXPECT_EQ(blame.rank, static_cast<uint32_t>(dead));
      EXPECT_EQ(blame.reason, v1::AbortReason::kPeerLost);
    }
    for (int n = 0; n < cluster.nodes(); ++n) {
      v1::ControlHeader* control = cluster.node(n).control();
      for (uint32_t r = 0; r < control->local_size; ++r) {
        EXPECT_EQ(v1::RankAreaOf(control, r).late_wakes.load(), 0u) << "MUSTER_TEST_SEED=" << Seed();
      }
    }
    if (HasFailure()) return;
  }
}

TEST(LeaveElsewhere, AtRandomMomentsAfterTheLastOperationIsNoError) {
  std::mt19937_64 random(Seed());
  for (int run = 0; run < 150; ++run) {
    FakeCluster cluster(ClusterOf(run % 2 == 0 ? std::vector<int>{2, 2} : std::vector<int>{1, 1, 1}));
    std::vector<uint64_t> yields;
    for (int r = 0; r < cluster.world_size(); ++r) yields.push_back(random() % 8);
    RunRanks(cluster, [&](Communicator& comm) {
      std::vector<float> values(run % 3 == 0 ? 1 : 50'000, 1.0f);
      const absl::Status status =
          comm.AllReduce(MakeTensor(values.data(), static_cast<int64_t>(values.size())), ReduceOp::kSum);
      EXPECT_TRUE(status.ok()) << status << "; MUSTER_TEST_SEED=" << Seed() << " run " << run;
      EXPECT_EQ(values.back(), static_cast<float>(comm.world_size()));
      for (uint64_t i = 0; i < yields[static_cast<size_t>(comm.rank())]; ++i) ::sched_yield();
    });
    EXPECT_TRUE(cluster.blames().empty());
    if (HasFailure()) return;
  }
}

TEST(LeaveElsewhere, WhoLeavesBeforeTheOthersIsNamed) {
  for (int leaver : {0, 1, 2, 3}) {
    FakeCluster cluster(ClusterOf({2, 2}));
    RunRanks(cluster, [leaver](Communicator& comm) {
      ASSERT_TRUE(comm.Barrier().ok());
      if (comm.rank() == leaver) return;
      std::vector<float> values(50'000);
      const absl::Status status = comm.AllReduce(MakeTensor(values.data(), 50'000), ReduceOp::kSum);
      EXPECT_TRUE(absl::IsUnavailable(status)) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("rank " + std::to_string(leaver)));
      EXPECT_THAT(std::string(status.message()), HasSubstr("left before the others"));
    });
    EXPECT_EQ(cluster.blames().size(), 3u);
    for (const FakeBlame& blame : cluster.blames()) {
      EXPECT_EQ(blame.rank, static_cast<uint32_t>(leaver));
      EXPECT_EQ(blame.reason, v1::AbortReason::kPeerLeft);
    }
  }
}

// The rank that has not come is named on all nodes, though most ranks wait for others that wait for it.
TEST(DeadlineElsewhere, NamesARankThatHadNotArrived) {
  for (int late : {0, 2, 4}) {
    for (int64_t count : {1, 50'000}) {
      // Who is nearest to the missing rank says so first, however long the machine keeps it from that.
      FakeClusterOptions options = ClusterOf({2, 3});
      options.node.outer_wait_nanoseconds = absl::ToInt64Nanoseconds(absl::Seconds(1));
      FakeCluster cluster(options);
      std::atomic<int> failed{0};
      RunRanks(cluster, [&](Communicator& comm) {
        EXPECT_TRUE(comm.Barrier().ok());  // they all run
        std::vector<float> values(static_cast<size_t>(count));
        const Tensor tensor = MakeTensor(values.data(), count);
        if (comm.rank() == late) {
          while (failed < 4) ::sched_yield();
          EXPECT_TRUE(absl::IsDeadlineExceeded(comm.AllReduce(tensor, ReduceOp::kSum)));
          return;
        }
        const absl::Status status = comm.AllReduce(tensor, ReduceOp::kSum, absl::Now() + absl::Milliseconds(200));
        EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
        EXPECT_THAT(std::string(status.message()), HasSubstr("rank " + std::to_string(late)));
        ++failed;
      });
      for (const FakeBlame& blame : cluster.blames()) EXPECT_EQ(blame.rank, static_cast<uint32_t>(late));
    }
  }
}

TEST(AbortElsewhere, ReachesEveryRankWithItsReason) {
  for (int round = 0; round < 20; ++round) {
    const int aborter_rank = round % 5;  // 4 carries no lane
    FakeCluster cluster(ClusterOf({2, 3}));
    RunRanks(cluster, [&](Communicator& comm) {
      std::thread aborter;
      if (comm.rank() == aborter_rank) {
        aborter = std::thread([&comm] { comm.Abort(absl::InternalError("loss is not a number")); });
      }
      absl::Status status;
      for (std::vector<float> values(50'000); status.ok();) {
        status = comm.AllReduce(MakeTensor(values.data(), 50'000), ReduceOp::kSum);
      }
      EXPECT_TRUE(absl::IsAborted(status)) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("rank " + std::to_string(aborter_rank)));
      EXPECT_THAT(std::string(status.message()), HasSubstr("aborted: loss is not a number"));
      EXPECT_EQ(comm.Barrier(), status);
      if (aborter.joinable()) aborter.join();
    });
    EXPECT_FALSE(cluster.blames().empty());
    for (const FakeBlame& blame : cluster.blames()) EXPECT_EQ(blame.rank, static_cast<uint32_t>(aborter_rank));
  }
}

using Call = std::function<absl::Status(Communicator&, std::vector<float>&)>;

Call AllReduceOf(int64_t count) {
  return [=](Communicator& comm, std::vector<float>& data) {
    return comm.AllReduce(MakeTensor(data.data(), count), ReduceOp::kSum);
  };
}

// Every rank of every node gets the same InvalidArgument.
void ExpectNamed(const std::vector<int>& layout, int odd, const Call& theirs, const Call& others, const std::string& message) {
  FakeCluster cluster(ClusterOf(layout));
  std::vector<absl::Status> statuses(static_cast<size_t>(cluster.world_size()));
  RunRanks(cluster, [&](Communicator& comm) {
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
  for (const FakeBlame& blame : cluster.blames()) {
    EXPECT_EQ(blame.rank, static_cast<uint32_t>(odd));
    EXPECT_EQ(blame.reason, v1::AbortReason::kMismatch);
  }
}

TEST(MismatchElsewhere, IsNamedAsOnOneNode) {
  const Call gather = [](Communicator& comm, std::vector<float>& data) {
    return comm.AllGather(MakeTensor(data.data() + 8192, 1024), MakeTensor(data.data(), 1024 * comm.world_size()));
  };
  for (const std::vector<int>& layout : {std::vector<int>{2, 2}, {3, 1}, {1, 1, 1, 1}, {1, 3}}) {
    ExpectNamed(layout, 3, gather, AllReduceOf(4096),
                "rank 3 called all_gather of 1024 f32, the others all_reduce of 4096 f32");
    const Call barrier = [](Communicator& comm, std::vector<float>&) { return comm.Barrier(); };
    ExpectNamed(layout, 0, barrier, AllReduceOf(100'000), "rank 0 called barrier, the others all_reduce of 100000 f32");
    const int64_t counts[] = {0, 1000, 100'000};
    for (int64_t a : counts) {
      for (int64_t b : counts) {
        if (a != b) ExpectNamed(layout, 2, AllReduceOf(a), AllReduceOf(b), "rank 2 called all_reduce of " + std::to_string(a));
      }
    }
    auto window_of = [](int64_t bytes) {
      return [bytes](Communicator& comm, std::vector<float>&) { return comm.CreateWindow(bytes).status(); };
    };
    ExpectNamed(layout, 1, window_of(8192), window_of(4096),
                "rank 1 called create_window of 8192 bytes, the others create_window of 4096");
  }
  ExpectNamed({1, 1}, 1, AllReduceOf(2), AllReduceOf(3), "rank 1 called all_reduce of 2 f32, rank 0 all_reduce of 3 f32");
}

TEST(WindowElsewhere, OneNodesMemoryLimitIsEveryRanksError) {
  FakeClusterOptions options = ClusterOf({2, 3});
  options.nodes[1] = options.node;
  options.nodes[1].memory_limit_bytes = 3 * 8192;
  FakeCluster cluster(options);
  RunRanks(cluster, [](Communicator& comm) {
    auto small = comm.CreateWindow(4096);
    ASSERT_TRUE(small.ok()) << small.status();
    const absl::Status refused = comm.CreateWindow(4097).status();
    EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
    EXPECT_THAT(std::string(refused.message()), HasSubstr("node 1"));
    EXPECT_THAT(std::string(refused.message()), HasSubstr("memory limit of 24576 bytes"));
    ASSERT_TRUE(comm.Barrier().ok());
    EXPECT_TRUE(comm.CreateWindow(4096).ok());
  });
  EXPECT_TRUE(cluster.blames().empty());
}

TEST(WindowElsewhere, OneRanksFailureIsEveryRanks) {
  FakeClusterOptions options = ClusterOf({2, 2});
  options.nodes[1] = options.node;
  options.nodes[1].offer_fails_on_rank = 1;
  FakeCluster cluster(options);
  RunRanks(cluster, [](Communicator& comm) {
    const absl::Status failed = comm.CreateWindow(4096).status();
    EXPECT_TRUE(absl::IsResourceExhausted(failed)) << failed;
    EXPECT_THAT(std::string(failed.message()), HasSubstr(comm.rank() == 3 ? "no descriptor is free" : "rank 3 could not"));
    EXPECT_TRUE(comm.Barrier().ok());
  });
}

TEST(ArgumentsElsewhere, AreCheckedAgainstTheWorld) {
  FakeCluster cluster(ClusterOf({2, 1}));
  RunRanks(cluster, [](Communicator& comm) {
    EXPECT_EQ(comm.world_size(), 3);
    std::vector<float> data(64);
    EXPECT_TRUE(comm.Broadcast(MakeTensor(data.data(), 4), 2).ok());
    EXPECT_TRUE(absl::IsInvalidArgument(comm.Broadcast(MakeTensor(data.data(), 4), 3)));
    EXPECT_TRUE(absl::IsInvalidArgument(comm.AllGather(MakeTensor(data.data(), 4), MakeTensor(data.data() + 8, 8))));
    EXPECT_TRUE(comm.Barrier().ok());
  });
}

}  // namespace
}  // namespace muster::test
