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
  EXPECT_TRUE(node.blames().empty()) << "the job goes on";
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
