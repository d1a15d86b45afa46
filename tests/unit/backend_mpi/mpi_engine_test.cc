// What callers see when MPI fails, hangs, or the launcher says that the generation is over. Time is virtual.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "runtime/base/clock.h"
#include "tests/support/fake_mpi.h"

namespace muster::test {
namespace {

using testing::HasSubstr;

// Moves on a millisecond at each look.
std::function<void(int, MpiOptions&)> VirtualTime(std::atomic<int64_t>& now) {
  return [&now](int, MpiOptions& options) {
    options.now = [&now] { return now.load(); };
    options.pause = [&now](int64_t) { now += 1'000'000; };
  };
}

std::string Text(const absl::Status& status) { return std::string(status.message()); }

TEST(MpiStart, SaysWhyItDoesNot) {
  const std::map<int, std::pair<absl::StatusCode, std::string>> wanted = {
      {kMpiIsOver, {absl::StatusCode::kFailedPrecondition, "started only once"}},
      {kMpiThreadsFewer, {absl::StatusCode::kFailedPrecondition, "MPI_THREAD_MULTIPLE"}},
      {15, {absl::StatusCode::kInternal, "Fake MPI v1 does not start: fake error 15"}}};
  for (const auto& [code, expected] : wanted) {
    FakeMpi mpi({.ranks = 1, .start_code = code});
    MpiOptions options;
    options.api = &mpi.api(0);
    const absl::Status status = CreateMpiCommunicator(std::move(options)).status();
    EXPECT_EQ(status.code(), expected.first) << status;
    EXPECT_THAT(Text(status), HasSubstr(expected.second));
  }
}

TEST(MpiEnd, IsForWhoHasNotFailed) {
  FakeMpi mpi({.ranks = 3});
  RunRanks(mpi, 3, [](Communicator& comm) { EXPECT_TRUE(comm.Barrier().ok()); });
  for (int rank = 0; rank < 3; ++rank) EXPECT_TRUE(mpi.ended(rank));
}

// Rank 1's library fails within the third operation: it says so, the others hear of it, and nobody ends MPI.
TEST(MpiFailure, OfTheLibraryReachesAllRanks) {
  FakeMpi mpi({.ranks = 3, .look = [](int rank, int64_t collective) {
                 return rank == 1 && collective == 5 ? 42 : collective >= 5 ? kHangs : kMpiOk;
               }});
  std::atomic<int> reports{0};
  RunRanks(
      mpi, 3,
      [](Communicator& comm) {
        std::vector<float> data(100, 1.0f);
        absl::Status status;
        int good = 0;
        while (status.ok() && good < 100) {
          status = comm.AllReduce(MakeTensor(data.data(), 100), ReduceOp::kMax);
          good += status.ok() ? 1 : 0;
        }
        EXPECT_EQ(good, 2);
        EXPECT_THAT(Text(status), HasSubstr("rank 1"));
        EXPECT_THAT(Text(status), HasSubstr("fake error 42"));
        EXPECT_TRUE(comm.rank() == 1 ? absl::IsUnavailable(status) : absl::IsAborted(status)) << status;
        EXPECT_EQ(comm.Barrier(), status);
        EXPECT_EQ(comm.CreateWindow(64).status(), status);
      },
      [&](int, MpiOptions& options) {
        options.failed = [&](const Failure& failure) {
          EXPECT_EQ(failure.rank, 1u);
          ++reports;
        };
      });
  EXPECT_EQ(reports, 3) << "who hears of it may end because of it";
  for (int rank = 0; rank < 3; ++rank) EXPECT_FALSE(mpi.ended(rank));
}

TEST(MpiFailure, AHangEndsAtTheDeadline) {
  FakeMpi mpi({.ranks = 2, .look = [](int, int64_t collective) { return collective >= 2 ? kHangs : kMpiOk; }});
  std::atomic<int64_t> now{MonotonicNanoseconds()};
  RunRanks(
      mpi, 2,
      [](Communicator& comm) {
        std::vector<double> data(10);
        ASSERT_TRUE(comm.AllReduce(MakeTensor(data.data(), 10), ReduceOp::kSum).ok());
        const absl::Status status = comm.AllReduce(MakeTensor(data.data(), 10), ReduceOp::kSum, absl::Now() + absl::Minutes(1));
        EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
        EXPECT_THAT(Text(status), HasSubstr("all_reduce of 10 f64"));
      },
      VirtualTime(now));
}

TEST(MpiFailure, TheLaunchersWordEndsAHang) {
  FakeMpi mpi({.ranks = 2, .look = [](int, int64_t) { return kHangs; }});
  std::atomic<int64_t> now{0};
  std::atomic<int> reports{0};
  RunRanks(
      mpi, 2,
      [](Communicator& comm) {
        auto started = comm.StartBarrier();
        ASSERT_TRUE(started.ok());
        const absl::Status status = (*started)->Wait();
        EXPECT_EQ(status, absl::UnavailableError("rank 9 was lost"));
        EXPECT_EQ(comm.Barrier(), status);
      },
      [&](int rank, MpiOptions& options) {
        VirtualTime(now)(rank, options);
        options.interrupted = [&now] {
          return now > 5'000'000'000 ? absl::UnavailableError("rank 9 was lost") : absl::OkStatus();
        };
        options.failed = [&](const Failure&) { ++reports; };
      });
  EXPECT_EQ(reports, 0) << "the launcher knows";
}

// A call that waits behind a started one that hangs does not wait longer than its deadline.
TEST(MpiFailure, ADeadlineHoldsBehindStartedOperations) {
  FakeMpi mpi({.ranks = 1, .look = [](int, int64_t) { return kHangs; }});
  RunRanks(mpi, 1, [](Communicator& comm) {
    auto started = comm.StartBarrier();
    ASSERT_TRUE(started.ok());
    const absl::Status status = comm.Barrier(absl::Now() + absl::Milliseconds(1));
    EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
    EXPECT_EQ((*started)->Wait(), status);
  });
}

// Rank 0 finishes the last operation long before the others look at theirs, and leaves: their operation is whole all the same.
TEST(MpiLeaving, HarmsNoOperationThatIsWhole) {
  std::atomic<bool> first_is_done{false};
  FakeMpi mpi({.ranks = 3, .look = [&](int rank, int64_t collective) {
                 return collective == 1 && rank != 0 && !first_is_done ? kHangs : kMpiOk;
               }});
  std::atomic<int64_t> now{0};
  RunRanks(
      mpi, 3,
      [&](Communicator& comm) {
        int32_t value = 1;
        EXPECT_TRUE(comm.AllReduce(MakeTensor(&value, 1), ReduceOp::kSum).ok());
        EXPECT_EQ(value, 3);
      },
      [&](int rank, MpiOptions& options) {
        VirtualTime(now)(rank, options);
        // Virtual hours after rank 0 left, when its farewell has been heard.
        options.pause = [&](int64_t) {
          if ((now += 1'000'000) > 3'000'000'000) first_is_done = true;
        };
      });
  for (int rank = 0; rank < 3; ++rank) EXPECT_TRUE(mpi.ended(rank));
}

}  // namespace
}  // namespace muster::test
