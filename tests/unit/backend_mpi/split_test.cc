// Communicators made by Split over MPI: what ends MPI's own split, which nobody can look at, and what their errors mean for the end of
// MPI.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "runtime/base/clock.h"
#include "tests/support/fake_mpi.h"

namespace muster::test {
namespace {

using testing::HasSubstr;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

TEST(MpiSplit, SoundOnesDoNotKeepMpiFromEnding) {
  FakeMpi mpi({.ranks = 4});
  RunRanks(mpi, 4, [](Communicator& world) {
    auto kept = world.Split(world.rank() % 2, 0);
    ASSERT_TRUE(kept.ok()) << kept.status();
    auto gone = (*kept)->Split(0, -world.rank());
    ASSERT_TRUE(gone.ok()) << gone.status();
    EXPECT_TRUE((*gone)->Barrier().ok());
    gone->reset();
    EXPECT_TRUE((*kept)->Barrier().ok());
  });
  for (int rank = 0; rank < 4; ++rank) EXPECT_TRUE(mpi.ended(rank));
}

// Ranks of the failed one cannot end MPI; the others hear that, and wait for nobody.
TEST(MpiSplit, AnErrorInOneMeansThatNobodyEndsMpi) {
  FakeMpi mpi({.ranks = 4});
  RunRanks(mpi, 4, [](Communicator& world) {
    auto split = world.Split(world.rank() % 2, 0);
    ASSERT_TRUE(split.ok()) << split.status();
    if (world.rank() == 3) (*split)->Abort(absl::AbortedError("enough"));
    const absl::Status status = (*split)->Barrier();
    EXPECT_EQ(status.ok(), world.rank() % 2 == 0) << status;
    if (!status.ok()) {
      EXPECT_THAT(Text(status), HasSubstr("rank 3 aborted: enough"));
    }
    EXPECT_TRUE(world.Barrier().ok());
  });
  for (int rank = 0; rank < 4; ++rank) EXPECT_FALSE(mpi.ended(rank));
}

TEST(MpiSplit, NeedsALibraryForSeveralThreads) {
  FakeMpi mpi({.ranks = 2, .for_several_threads = false});
  RunRanks(mpi, 2, [](Communicator& world) {
    const absl::Status status = world.Split(0, 0).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(Text(status), HasSubstr("MPI_THREAD_MULTIPLE"));
    EXPECT_TRUE(world.Barrier().ok());
  });
  for (int rank = 0; rank < 2; ++rank) EXPECT_TRUE(mpi.ended(rank));
}

TEST(MpiSplit, IsBoundedOverTheLifeOfAProcess) {
  FakeMpi mpi({.ranks = 2});
  RunRanks(mpi, 2, [](Communicator& world) {
    for (int i = 0; i < kMpiChildrenMax; ++i) {
      auto split = world.Split(world.rank() == 1 ? 0 : kNoColor, 0);
      ASSERT_TRUE(split.ok()) << split.status();
    }
    const absl::Status status = world.Split(0, 0).status();
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
    EXPECT_THAT(Text(status), HasSubstr("rank 1 has made 256 communicators"));
    EXPECT_TRUE(world.Barrier().ok());
  });
  for (int rank = 0; rank < 2; ++rank) EXPECT_TRUE(mpi.ended(rank));
}

// Rank 2 dies within MPI's split. The others' threads never come back from theirs, their calls do. Such a library stays for the
// process's life, as the threads in it do.
FakeMpi& WhereRank2DiesInSplit() {
  return *new FakeMpi({.ranks = 3, .dies_in_split = [](int rank) { return rank == 2; }});
}

TEST(MpiSplit, ADeadlineEndsOneThatNeverComesBack) {
  FakeMpi& mpi = WhereRank2DiesInSplit();
  RunRanks(mpi, 3, [](Communicator& world) {
    const absl::Status status = world.Split(0, 0, absl::Now() + absl::Milliseconds(50)).status();
    if (world.rank() == 2) {
      EXPECT_TRUE(absl::IsUnavailable(status)) << status;
      return;
    }
    EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
    EXPECT_THAT(Text(status), HasSubstr("during split"));
    EXPECT_EQ(world.Barrier(), status);
    EXPECT_EQ(world.StartBarrier().status(), status);
    EXPECT_EQ(world.Split(0, 0).status(), status);
  });
  for (int rank = 0; rank < 3; ++rank) EXPECT_FALSE(mpi.ended(rank));
}

TEST(MpiSplit, TheLaunchersWordEndsOneThatNeverComesBack) {
  FakeMpi& mpi = WhereRank2DiesInSplit();
  std::atomic<bool> dead{false};
  std::atomic<int64_t> now{1};
  RunRanks(
      mpi, 3,
      [&dead](Communicator& world) {
        const absl::Status status = world.Split(0, 0).status();
        if (world.rank() == 2) {
          dead = true;
          return;
        }
        EXPECT_EQ(status, absl::UnavailableError("rank 2 was lost"));
        EXPECT_EQ(world.Barrier(), status);
      },
      [&](int, MpiOptions& options) {
        options.now = [&now] { return now.load(); };
        options.pause = [&now](int64_t) { now += 1'000'000; };
        options.interrupted = [&dead] { return dead ? absl::UnavailableError("rank 2 was lost") : absl::OkStatus(); };
      });
  for (int rank = 0; rank < 3; ++rank) EXPECT_FALSE(mpi.ended(rank));
}

}  // namespace
}  // namespace muster::test
