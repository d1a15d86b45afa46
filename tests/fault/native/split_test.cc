// What callers see in communicators made by Split when a peer dies, leaves, or has no more memory or descriptors: every blocked call
// returns and names the rank of the job that it should, and no wake-up is found late.
//
// MUSTER_TEST_SEED replays a run.
#include "runtime/backend/native/split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
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

std::string Text(const absl::Status& status) { return std::string(status.message()); }

void ExpectNoLateWakes(FakeNode& node) {
  for (uint32_t r = 0; r < node.control()->local_size; ++r) {
    EXPECT_EQ(v1::RankAreaOf(node.control(), r).late_wakes.load(), 0u) << "MUSTER_TEST_SEED=" << Seed();
  }
}

// Calls until one fails.
absl::Status CallUntilItFails(Communicator& comm, std::atomic<uint64_t>& calls) {
  std::vector<float> values(20'000, 1.0f);
  for (int i = 0;; ++i) {
    ++calls;
    const int64_t count = i % 3 == 0 ? 2 : i % 3 == 1 ? 1000 : 20'000;
    const absl::Status status = comm.AllReduce(MakeTensor(values.data(), count), ReduceOp::kMax);
    if (!status.ok()) return status;
  }
}

// A rank dies while the others are in communicators of different ranks, some without it, in two threads each.
TEST(DeathInASplit, EndsEveryCommunicatorOfTheNodeAndNamesTheRankOfTheJob) {
  std::mt19937_64 random(Seed());
  for (int round = 0; round < 60; ++round) {
    const int ranks = 3 + static_cast<int>(random() % 3);
    const int dead = static_cast<int>(random() % static_cast<uint64_t>(ranks));
    const uint64_t killed_after = random() % 200;
    FakeNode node({.ranks = ranks, .staging_bytes = 16 * 1024});
    std::atomic<uint64_t> calls{0};
    std::atomic<int> ready{0};
    std::thread agent([&] {
      while (ready < ranks || calls < killed_after) ::sched_yield();
      node.Kill(dead);
    });
    std::vector<std::thread> threads;
    for (int rank = 0; rank < ranks; ++rank) {
      threads.emplace_back([&, rank] {
        auto world = node.Join(rank);
        auto reversed = world->Split(0, -rank);
        auto parity = world->Split(rank % 2, 0);
        ++ready;
        if (!reversed.ok() || !parity.ok()) return ADD_FAILURE() << reversed.status() << parity.status();
        std::vector<absl::Status> ends(2);
        std::thread other([&] { ends[0] = CallUntilItFails(**parity, calls); });
        ends[1] = CallUntilItFails(**reversed, calls);
        other.join();
        for (const absl::Status& end : ends) {
          EXPECT_TRUE(absl::IsUnavailable(end)) << end << "; MUSTER_TEST_SEED=" << Seed() << " round " << round;
          EXPECT_THAT(Text(end), HasSubstr(absl::StrCat("rank ", dead, " (fake-host): lost"))) << "round " << round;
        }
        EXPECT_EQ((*reversed)->Barrier(), ends[1]);
        EXPECT_TRUE(absl::IsUnavailable(world->Barrier()));
        EXPECT_TRUE(absl::IsUnavailable((*parity)->Split(0, 0).status()));
      });
    }
    for (std::thread& thread : threads) thread.join();
    agent.join();
    for (const FakeBlame& blame : node.blames()) EXPECT_EQ(blame.rank, static_cast<uint32_t>(dead));
    ExpectNoLateWakes(node);
    if (HasFailure()) return;
  }
}

// On several nodes, where only those that wait for the dead rank, or for one that does, hear of it.
TEST(DeathInASplit, IsHeardOnOtherNodesByThoseWhoWait) {
  std::mt19937_64 random(Seed());
  for (int round = 0; round < 40; ++round) {
    FakeClusterOptions options;
    options.ranks = round % 2 == 0 ? std::vector<int>{2, 2} : std::vector<int>{1, 2, 1};
    options.node.staging_bytes = 16 * 1024;
    FakeCluster cluster(options);
    const int ranks = cluster.world_size();
    const int dead = static_cast<int>(random() % static_cast<uint64_t>(ranks));
    const uint64_t killed_after = random() % 60;
    std::vector<int> keys;
    for (int r = 0; r < ranks; ++r) keys.push_back(static_cast<int>(random() % 10));
    std::atomic<uint64_t> calls{0};
    std::atomic<int> ready{0};
    std::thread agent([&] {
      while (ready < ranks || calls < killed_after) ::sched_yield();
      cluster.Kill(dead);
    });
    std::vector<std::thread> threads;
    for (int rank = 0; rank < ranks; ++rank) {
      threads.emplace_back([&, rank] {
        auto world = cluster.Join(rank);
        auto split = world->Split(3, keys[static_cast<size_t>(rank)]);
        ++ready;
        if (!split.ok()) return ADD_FAILURE() << split.status();
        const absl::Status end = CallUntilItFails(**split, calls);
        EXPECT_TRUE(absl::IsUnavailable(end)) << end << "; MUSTER_TEST_SEED=" << Seed() << " round " << round;
        EXPECT_THAT(Text(end), HasSubstr(absl::StrCat("rank ", dead)))
            << "on rank " << rank << "; MUSTER_TEST_SEED=" << Seed() << " round " << round;
        EXPECT_THAT(Text(end), HasSubstr(": lost"));
        EXPECT_FALSE(world->Barrier().ok()) << "a lost rank ends all";
      });
    }
    for (std::thread& thread : threads) thread.join();
    agent.join();
    for (int n = 0; n < cluster.nodes(); ++n) ExpectNoLateWakes(cluster.node(n));
    if (HasFailure()) return;
  }
}

// A rank never comes to a Split, at any of its steps as the others see them: they hear of its death.
TEST(DeathInASplit, AtTheSplitItself) {
  std::mt19937_64 random(Seed());
  for (const bool across : {false, true}) {
    for (int round = 0; round < 40; ++round) {
      FakeClusterOptions options;
      options.ranks = across ? std::vector<int>{2, 2} : std::vector<int>{4};
      FakeCluster cluster(options);
      const int dead = static_cast<int>(random() % 4);
      const uint64_t goes_on = random() % 30;
      std::vector<std::thread> threads;
      std::atomic<uint64_t> splits{0};
      std::thread agent([&] {
        while (splits < goes_on) ::sched_yield();
        cluster.Kill(dead);
      });
      for (int rank = 0; rank < 4; ++rank) {
        threads.emplace_back([&, rank] {
          auto world = cluster.Join(rank);
          absl::Status status;
          for (int i = 0; status.ok(); ++i) {
            status = world->Split(i % 2 == 0 ? rank % 2 : 0, i % 3 == 0 ? -rank : rank).status();
            ++splits;
          }
          const absl::Status next = world->Barrier();
          EXPECT_TRUE(absl::IsUnavailable(next)) << next << "; MUSTER_TEST_SEED=" << Seed() << " round " << round;
          EXPECT_THAT(Text(next), HasSubstr(absl::StrCat("rank ", dead))) << "after " << status;
        });
      }
      for (std::thread& thread : threads) thread.join();
      agent.join();
      for (int n = 0; n < cluster.nodes(); ++n) ExpectNoLateWakes(cluster.node(n));
      if (HasFailure()) return;
    }
  }
}

// Who leaves the job in good order is missed in its communicators too.
TEST(LeaveInASplit, WhoLeavesTheJobIsNamed) {
  FakeNode node({.ranks = 3});
  RunRanks(node, [&node](Communicator& world) {
    auto split = world.Split(0, -world.rank());
    ASSERT_TRUE(split.ok()) << split.status();
    if (world.rank() == 2) {
      node.Leave(2);  // as at exit, without having destroyed anything
      return;
    }
    const absl::Status status = (*split)->Barrier();
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_THAT(Text(status), HasSubstr("rank 2 (fake-host) left before the others"));
  });
  ExpectNoLateWakes(node);
}

TEST(DeadlineInASplit, NamesTheRankOfTheJobThatHadNotArrived) {
  FakeNode node({.ranks = 4});
  RunRanks(node, [](Communicator& world) {
    auto split = world.Split(world.rank() < 2 ? 0 : 1, -world.rank());
    ASSERT_TRUE(split.ok()) << split.status();
    if (world.rank() == 2) {
      const absl::Status status = (*split)->Barrier(absl::Now() + absl::Milliseconds(5));
      EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
      EXPECT_THAT(Text(status), HasSubstr("rank 3 (fake-host) had not arrived"));
    }
    EXPECT_TRUE(world.Barrier().ok());
  });
  // The agent hears whom it waited for, and that the job may go on.
  ASSERT_EQ(node.blames().size(), 1u);
  EXPECT_EQ(node.blames()[0].reporter, 2);
  EXPECT_EQ(node.blames()[0].rank, 3u);
  EXPECT_EQ(node.blames()[0].reason, v1::AbortReason::kDeadline);
  EXPECT_TRUE(node.blames()[0].of_some_ranks);
}

TEST(LeaveInASplit, WhoHasDestroyedItIsBlamed) {
  FakeNode node({.ranks = 4});
  RunRanks(node, [](Communicator& world) {
    auto split = world.Split(world.rank() < 2 ? 0 : 1, -world.rank());
    ASSERT_TRUE(split.ok()) << split.status();
    ASSERT_TRUE((*split)->Barrier().ok());
    if (world.rank() == 3) split->reset();
    if (world.rank() == 2) {
      EXPECT_TRUE(absl::IsUnavailable((*split)->Barrier()));
    }
    EXPECT_TRUE(world.Barrier().ok());
  });
  ASSERT_EQ(node.blames().size(), 1u);
  EXPECT_EQ(node.blames()[0].reporter, 2);
  EXPECT_EQ(node.blames()[0].rank, 3u);
  EXPECT_EQ(node.blames()[0].reason, v1::AbortReason::kPeerLeft);
}

// Threads of a rank that are in several communicators at once have entries of their own; one that has failed is over.
TEST(FlightRecordOfASplit, StandsInTheGenerationsMemory) {
  FakeNode node({.ranks = 3});
  RunRanks(node, [](Communicator& world) {
    std::vector<float> values(5000);
    auto reversed = world.Split(0, -world.rank());
    auto pair = world.Split(world.rank() == 0 ? 0 : 1, 0);
    ASSERT_TRUE(reversed.ok() && pair.ok());
    for (int i = 0; i < 40; ++i) ASSERT_TRUE((*reversed)->AllReduce(MakeTensor(values.data(), 5000), ReduceOp::kSum).ok());
    ASSERT_TRUE((*pair)->Broadcast(MakeTensor(values.data(), 7), 0).ok());
    if (world.rank() == 1) {
      EXPECT_TRUE(absl::IsDeadlineExceeded((*pair)->Barrier(absl::Now() + absl::Milliseconds(1))));
    }
    ASSERT_TRUE(world.Barrier().ok());
  });
  std::vector<uint64_t> numbers;
  for (uint32_t rank = 0; rank < 3; ++rank) {
    const v1::RankArea& area = v1::RankAreaOf(node.control(), rank);
    const v1::SplitFlightEntry& reversed = area.split_flight[0];
    EXPECT_EQ(reversed.entry.op_seq, 40u);
    EXPECT_EQ(reversed.entry.what.count, 5000);
    EXPECT_LT(reversed.entry.begin_ns, reversed.entry.end_ns);
    EXPECT_EQ(reversed.world_size, 3u);
    EXPECT_EQ(reversed.rank, 2 - rank);
    numbers.push_back(reversed.communicator);
    const v1::SplitFlightEntry& pair = area.split_flight[1];
    EXPECT_EQ(pair.world_size, rank == 0 ? 1u : 2u);
    EXPECT_NE(pair.communicator, reversed.communicator);
    EXPECT_EQ(pair.entry.what.kind, rank == 1 ? v1::OpKind::kBarrier : v1::OpKind::kBroadcast);
    EXPECT_NE(pair.entry.end_ns, 0u) << "rank " << rank;
  }
  EXPECT_EQ(numbers, std::vector<uint64_t>(3, numbers[0])) << "the same on all ranks, so that they can be compared";
  EXPECT_NE(numbers[0], 0u);
}

// Ranks of two nodes in turn: each is a node of its own, and the message names host and rank as the job does.
TEST(DeadlineInASplit, AcrossNodesToo) {
  FakeClusterOptions options;
  options.ranks = {2, 2};
  FakeCluster cluster(options);
  RunRanks(cluster, [](Communicator& world) {
    auto split = world.Split(0, world.rank() % 2);  // 0 2 1 3
    ASSERT_TRUE(split.ok()) << split.status();
    if (world.rank() != 3) {
      const absl::Status status = (*split)->Barrier(absl::Now() + absl::Milliseconds(20));
      EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
      EXPECT_THAT(Text(status), HasSubstr("rank 3"));
    }
    EXPECT_TRUE(world.Barrier().ok());
  });
}

TEST(SplitFails, OnAllWhereOneRankHasNoDescriptor) {
  for (const int without : {0, 1}) {
    FakeNode node({.ranks = 3, .offer_fails_on_rank = without});
    RunRanks(node, [&](Communicator& world) {
      const bool offers = world.rank() == without;  // the first of its communicator makes the memory
      const absl::Status status = world.Split(0, offers ? -1 : 0).status();
      EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
      EXPECT_THAT(Text(status), HasSubstr(offers ? "no descriptor is free" : absl::StrCat("rank ", without)));
      EXPECT_TRUE(world.Barrier().ok());
      EXPECT_TRUE(world.Split(0, offers ? 1 : 0).ok()) << "where another rank offers";
    });
    EXPECT_EQ(node.offered(), 0u);
  }
}

TEST(SplitFails, BeyondTheBoundOnEveryRankAndHarmsNothing) {
  FakeNode node({.ranks = 2, .slot_bytes = 512, .staging_bytes = 2048});
  RunRanks(node, [](Communicator& world) {
    std::vector<std::unique_ptr<Communicator>> held;
    const int more = world.rank() == 1 ? kNativeChildrenMax : kNativeChildrenMax / 2;  // rank 0 has room
    for (int i = 0; i < kNativeChildrenMax; ++i) {
      auto split = world.Split(i < more ? world.rank() : kNoColor, 0);
      ASSERT_TRUE(split.ok()) << split.status();
      if (*split != nullptr) held.push_back(*std::move(split));
    }
    const absl::Status status = world.Split(0, 0).status();
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
    EXPECT_THAT(Text(status), HasSubstr("rank 1 has 64 communicators made by Split"));
    if (world.rank() == 1) held.pop_back();
    auto split = world.Split(0, 0);
    EXPECT_TRUE(split.ok()) << split.status();
  });
}

// In a child made by fork the communicator's memory is not there; destroying it there harms nobody.
TEST(ForkWithASplit, TheChildLetsGo) {
  FakeNode node({.ranks = 2});
  RunRanks(node, [](Communicator& world) {
    auto split = world.Split(0, 0);
    ASSERT_TRUE(split.ok()) << split.status();
    if (world.rank() == 0) {
      const pid_t child = ::fork();
      if (child == 0) {
        split->reset();
        ::_exit(17);
      }
      int status = 0;
      ASSERT_EQ(::waitpid(child, &status, 0), child);
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 17) << status;
    }
    EXPECT_TRUE((*split)->Barrier().ok());
    EXPECT_TRUE(world.Barrier().ok());
  });
}

}  // namespace
}  // namespace muster::test
