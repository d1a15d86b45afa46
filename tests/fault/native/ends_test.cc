// What callers see when a peer dies, leaves, is late or aborts: every blocked call returns, and names whom it should.
//
// MUSTER_TEST_SEED replays a run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/muster/v1/control_wake.h"
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

// A call of every kind and algorithm in turn, on a rank's own buffers.
class Calls {
 public:
  explicit Calls(Communicator& comm) : comm_(comm), values_(60'000, 1.0f), gathered_(60'000 * 4, 0.0f) {
    auto window = comm.CreateWindow(1 << 20);
    if (window.ok()) window_ = *std::move(window);
  }

  absl::Status Next() {
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
        return comm_.AllGather(MakeTensor(values_.data(), 100), MakeTensor(gathered_.data(), 100 * comm_.world_size()));
      case 6: {
        auto work = comm_.StartReduceScatter(MakeTensor(gathered_.data(), 20'000 * comm_.world_size()),
                                             MakeTensor(values_.data(), 20'000), ReduceOp::kMin);
        return work.ok() ? (*work)->Wait() : work.status();
      }
      default:
        return comm_.Barrier();
    }
  }

 private:
  Communicator& comm_;
  std::vector<float> values_;
  std::vector<float> gathered_;
  std::unique_ptr<Window> window_;
  int turn_ = 0;
};

// Rank 1 stops at a random call, or goes on until the abort reaches it; the agent says that it is dead at a random moment.
TEST(Death, EveryBlockedAndLaterCallNamesTheDeadRank) {
  std::mt19937_64 random(Seed());
  for (int round = 0; round < 200; ++round) {
    const int ranks = 2 + static_cast<int>(random() % 3);
    const int stops_at = random() % 4 == 0 ? -1 : static_cast<int>(random() % 100);
    const uint64_t killed_after = random() % 300;
    FakeNode node({.ranks = ranks, .staging_bytes = 16 * 1024});
    std::atomic<uint64_t> calls{0};
    std::atomic<bool> stopped{false};
    std::thread agent([&] {
      while (!stopped && calls < killed_after) ::sched_yield();
      node.Kill(1);
    });
    std::vector<std::thread> threads;
    for (int rank = 0; rank < ranks; ++rank) {
      threads.emplace_back([&, rank] {
        auto comm = node.Join(rank);
        Calls mine(*comm);
        for (int i = 0;; ++i) {
          if (rank == 1 && i == stops_at) {
            stopped = true;
            return;
          }
          const absl::Status status = mine.Next();
          ++calls;
          if (status.ok()) continue;
          EXPECT_TRUE(absl::IsUnavailable(status)) << status << "; MUSTER_TEST_SEED=" << Seed() << " round " << round;
          EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 (fake-host): lost"));
          EXPECT_EQ(comm->Barrier(), status);
          return;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    agent.join();
    for (const FakeBlame& blame : node.blames()) {
      EXPECT_EQ(blame.rank, 1u);
      EXPECT_EQ(blame.reason, v1::AbortReason::kPeerLost);
    }
    for (uint32_t r = 0; r < static_cast<uint32_t>(ranks); ++r) {
      EXPECT_EQ(v1::RankAreaOf(node.control(), r).late_wakes.load(), 0u) << "MUSTER_TEST_SEED=" << Seed();
    }
    if (HasFailure()) return;
  }
}

TEST(Death, QueuedOperationsEndToo) {
  FakeNode node({.ranks = 2});
  RunRanks(node, [&node](Communicator& comm) {
    if (comm.rank() == 1) return node.Kill(1);
    std::vector<float> values(1000);
    std::vector<std::unique_ptr<Work>> works;
    for (int i = 0; i < 10; ++i) {
      auto work = comm.StartAllReduce(MakeTensor(values.data(), 1000), ReduceOp::kSum);
      if (work.ok()) works.push_back(*std::move(work));
    }
    for (const auto& work : works) EXPECT_TRUE(absl::IsUnavailable(work->Wait()));
  });
}

// A contribution that is already there completes the operation, though its rank has died since.
TEST(Death, AnOperationWhoseContributionsAreAllThereSucceeds) {
  FakeNode node({.ranks = 2});
  std::atomic<bool> done{false};
  RunRanks(node, [&](Communicator& comm) {
    int64_t value = 1;
    if (comm.rank() == 1) {
      ASSERT_TRUE(comm.AllReduce(MakeTensor(&value, 1), ReduceOp::kSum).ok());
      node.Kill(1);
      done = true;
      return;
    }
    // Rank 0 arrives, then looks only after the death: its own wait is over by completion.
    auto work = comm.StartAllReduce(MakeTensor(&value, 1), ReduceOp::kSum);
    ASSERT_TRUE(work.ok());
    while (!done) ::sched_yield();
    const absl::Status status = (*work)->Wait();
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(value, 2);
    EXPECT_TRUE(absl::IsUnavailable(comm.Barrier()));
  });
}

TEST(Leave, AtRandomMomentsAfterTheLastBarrierIsNoError) {
  std::mt19937_64 random(Seed());
  for (int run = 0; run < 1000; ++run) {
    const int ranks = 2 + static_cast<int>(random() % 4);
    std::vector<uint64_t> yields;
    for (int r = 0; r < ranks; ++r) yields.push_back(random() % 8);
    FakeNode node({.ranks = ranks});
    RunRanks(node, [&](Communicator& comm) {
      int64_t value = 1;
      EXPECT_TRUE(comm.AllReduce(MakeTensor(&value, 1), ReduceOp::kSum).ok());
      const absl::Status status = comm.Barrier();
      EXPECT_TRUE(status.ok()) << status << "; MUSTER_TEST_SEED=" << Seed() << " run " << run;
      for (uint64_t i = 0; i < yields[static_cast<size_t>(comm.rank())]; ++i) ::sched_yield();
    });
    EXPECT_TRUE(node.blames().empty());
    EXPECT_EQ(node.control()->abort_word.load(), v1::kNoAbort);
    if (HasFailure()) return;
  }
}

TEST(Leave, WhoLeavesBeforeTheOthersIsNamed) {
  FakeNode node({.ranks = 4});
  RunRanks(node, [](Communicator& comm) {
    ASSERT_TRUE(comm.Barrier().ok());
    if (comm.rank() == 2) return;
    std::vector<float> values(100);
    const absl::Status status = comm.AllReduce(MakeTensor(values.data(), 100), ReduceOp::kSum);
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 2 (fake-host) left before the others"));
  });
  const std::vector<FakeBlame> blames = node.blames();
  EXPECT_EQ(blames.size(), 3u);
  for (const FakeBlame& blame : blames) {
    EXPECT_EQ(blame.rank, 2u);
    EXPECT_EQ(blame.reason, v1::AbortReason::kPeerLeft);
  }
}

TEST(Deadline, NamesARankThatHadNotArrived) {
  FakeNode node({.ranks = 3});
  std::atomic<int> failed{0};
  RunRanks(node, [&failed](Communicator& comm) {
    if (comm.rank() == 1) {
      while (failed < 2) ::sched_yield();
      EXPECT_TRUE(absl::IsDeadlineExceeded(comm.Barrier()));
      return;
    }
    const absl::Status status = comm.Barrier(absl::Now() + absl::Milliseconds(30));
    EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 (fake-host) had not arrived"));
    ++failed;
  });
  for (const FakeBlame& blame : node.blames()) EXPECT_EQ(blame.rank, 1u);
}

TEST(Deadline, CoversTheWaitForStartedOperations) {
  FakeNode node({.ranks = 2});
  std::atomic<bool> failed{false};
  RunRanks(node, [&failed](Communicator& comm) {
    int64_t value = 1;
    if (comm.rank() == 1) {
      while (!failed) ::sched_yield();
      EXPECT_FALSE(comm.Barrier().ok());
      return;
    }
    auto work = comm.StartAllReduce(MakeTensor(&value, 1), ReduceOp::kSum);
    ASSERT_TRUE(work.ok());
    EXPECT_TRUE(absl::IsDeadlineExceeded(comm.Barrier(absl::Now() + absl::Milliseconds(30))));
    EXPECT_TRUE(absl::IsDeadlineExceeded((*work)->Wait()));
    failed = true;
  });
}

TEST(Abort, FromAnotherThreadReachesEveryRankWithItsReason) {
  for (int round = 0; round < 50; ++round) {
    FakeNode node({.ranks = 3});
    RunRanks(node, [](Communicator& comm) {
      std::thread aborter;
      if (comm.rank() == 2) aborter = std::thread([&comm] { comm.Abort(absl::InternalError("loss is not a number")); });
      absl::Status status;
      for (std::vector<float> values(200'000); status.ok();) {
        status = comm.AllReduce(MakeTensor(values.data(), 200'000), ReduceOp::kSum);
      }
      EXPECT_EQ(status, absl::AbortedError("rank 2 (fake-host) aborted: loss is not a number"));
      EXPECT_EQ(comm.Barrier(), status);
      if (aborter.joinable()) aborter.join();
    });
    EXPECT_FALSE(node.blames().empty());
  }
}

TEST(Abort, TheEndOfTheGenerationReachesAWorldOfOne) {
  FakeNode node({.ranks = 1, .generation = 4});
  auto comm = node.Join(0);
  ASSERT_TRUE(comm->Barrier().ok());
  v1::RaiseAbort(node.control(), v1::PackAbort(v1::AbortReason::kGenerationOver, v1::kNoRank, 0));
  EXPECT_TRUE(absl::IsAborted(comm->Barrier()));
}

// A dead worker's last operations can be read from the control memory.
TEST(FlightRecord, KeepsTheLastOperations) {
  FakeNode node({.ranks = 2});
  RunRanks(node, [](Communicator& comm) {
    std::vector<float> values(5000);
    for (int i = 0; i < 40; ++i) ASSERT_TRUE(comm.AllReduce(MakeTensor(values.data(), 5000), ReduceOp::kSum).ok());
    if (comm.rank() == 0) {
      EXPECT_FALSE(comm.Broadcast(MakeTensor(values.data(), 7), 0).ok());  // the other rank has left
    }
  });
  const v1::RankArea& area = v1::RankAreaOf(node.control(), 0);
  EXPECT_EQ(area.flight_next.load(), 41u);
  const v1::FlightEntry& last = area.flight[40 % v1::kFlightEntries];
  EXPECT_EQ(last.op_seq, 41u);
  EXPECT_EQ(last.what.kind, v1::OpKind::kBroadcast);
  EXPECT_EQ(last.end_ns, 0u);
  const v1::FlightEntry& before = area.flight[39 % v1::kFlightEntries];
  EXPECT_EQ(before.what.count, 5000);
  EXPECT_LT(before.begin_ns, before.end_ns);
}

}  // namespace
}  // namespace muster::test
