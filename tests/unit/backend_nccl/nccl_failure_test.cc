// What callers see of collectives in device memory when NCCL or CUDA fails or hangs, or the launcher says that the generation is over.
// Time is virtual, and moves only while a test has it move.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <array>
#include <atomic>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "runtime/backend/native/native.h"
#include "runtime/base/clock.h"
#include "tests/support/device_buffer.h"
#include "tests/support/fake_nccl.h"

namespace muster::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string Text(const absl::Status& status) { return std::string(status.message()); }
absl::Status Copied(const absl::Status& status) { return absl::Status(status.code(), status.message()); }

// One rank's clock.
struct VirtualTime {
  std::atomic<int64_t> now{MonotonicNanoseconds()};
  std::atomic<bool> moves{false};

  void Use(NcclOptions& options) {
    options.now = [this] { return now.load(); };
    options.pause = [this](int64_t) {
      if (moves) now += 1'000'000;
      ::sched_yield();
    };
  }
};

// Three ranks with a GPU each, and clocks.
class NcclFailure : public testing::Test {
 protected:
  static constexpr int kRanks = 3;

  // An end that does not hang takes no time.
  std::function<bool(int)> EndsAtOnce() {
    return [this](int rank) {
      times_[static_cast<size_t>(rank)].moves = false;
      return false;
    };
  }
  void Move() {
    for (VirtualTime& time : times_) time.moves = true;
  }

  void Run(FakeNcclOptions options, const std::function<void(Communicator&)>& body,
           const std::function<void(int, NcclOptions&)>& change = nullptr,
           const std::function<void(int, const absl::Status&)>& failed = nullptr) {
    if (!options.abort_hangs) options.abort_hangs = EndsAtOnce();
    FakeNccl nccl(cuda_, std::move(options));
    RunNcclRanks(
        cuda_, nccl, node_, body,
        [&](int rank, NcclOptions& o) {
          times_[static_cast<size_t>(rank)].Use(o);
          if (change) change(rank, o);
        },
        failed);
    communicators_left_ = nccl.communicators();
  }

  FakeCuda cuda_{{.devices = kRanks}};
  FakeNode node_{{.ranks = kRanks}};
  std::array<VirtualTime, kRanks> times_;
  int64_t communicators_left_ = -1;
};

TEST_F(NcclFailure, WithoutOneAllIsGivenBack) {
  Run({}, [this](Communicator& comm) {
    DeviceBuffer data(cuda_, comm.rank(), 400);
    EXPECT_TRUE(comm.AllReduce(MakeTensor(data.data<float>(), 100), ReduceOp::kSum).ok());
    EXPECT_FALSE(comm.capabilities().membership_is_fixed);
    EXPECT_NE(comm.capabilities().device, nullptr);
  });
  EXPECT_EQ(communicators_left_, 0);
  EXPECT_EQ(cuda_.allocations(), 0);
  EXPECT_EQ(cuda_.streams(), 0);
}

TEST_F(NcclFailure, AStartThatHangsEnds) {
  std::vector<absl::Status> statuses(kRanks);
  Run(
      {.start =
           [this](int rank) {
             if (rank == 0) Move();
             return rank == 0 ? kNcclHangs : kNcclOk;
           }},
      [](Communicator&) { ADD_FAILURE(); }, nullptr,
      [&](int rank, const absl::Status& status) { statuses[static_cast<size_t>(rank)] = Copied(status); });
  int late = 0;
  for (const absl::Status& status : statuses) {
    EXPECT_TRUE(absl::IsDeadlineExceeded(status) || absl::IsAborted(status)) << status;
    EXPECT_THAT(Text(status),
                AllOf(HasSubstr("NCCL 2.99.0"), HasSubstr("while NCCL started"), HasSubstr("NCCL_SOCKET_IFNAME")));
    late += absl::IsDeadlineExceeded(status) ? 1 : 0;
  }
  EXPECT_GE(late, 1);
  EXPECT_EQ(communicators_left_, 0);
  EXPECT_EQ(cuda_.allocations(), 0);
}

TEST_F(NcclFailure, AStartThatFailsOnOneRankFailsOnAll) {
  for (const int code : {kNcclInternalError, kNcclInvalidUsage}) {
    FakeNode node({.ranks = kRanks});
    FakeNccl nccl(cuda_, {.start = [code](int rank) { return rank == 1 ? code : kNcclOk; }});
    std::vector<absl::Status> statuses(kRanks);
    RunNcclRanks(
        cuda_, nccl, node, [](Communicator&) { ADD_FAILURE(); }, nullptr,
        [&](int rank, const absl::Status& status) { statuses[static_cast<size_t>(rank)] = Copied(status); });
    EXPECT_EQ(statuses[1].code(),
              code == kNcclInvalidUsage ? absl::StatusCode::kFailedPrecondition : absl::StatusCode::kUnavailable);
    for (const absl::Status& status : statuses) EXPECT_THAT(Text(status), HasSubstr("fake NCCL error"));
    for (const int other : {0, 2}) {
      EXPECT_TRUE(absl::IsAborted(statuses[static_cast<size_t>(other)])) << statuses[static_cast<size_t>(other)];
      EXPECT_THAT(Text(statuses[static_cast<size_t>(other)]), HasSubstr("rank 1"));
    }
    EXPECT_EQ(nccl.communicators(), 0);
  }
}

// An error that NCCL finds while a collective runs: whose it is says so, the others hear of it.
TEST_F(NcclFailure, AnAsynchronousErrorReachesAllRanks) {
  Run({.runs = [](int rank, int64_t collective) { return rank == 1 && collective == 2 ? kNcclInternalError : kNcclOk; }},
      [this](Communicator& comm) {
        DeviceBuffer data(cuda_, comm.rank(), 400);
        absl::Status status;
        int good = 0;
        while (status.ok() && good < 100) {
          status = comm.AllReduce(MakeTensor(data.data<float>(), 100), ReduceOp::kSum);
          good += status.ok() ? 1 : 0;
        }
        EXPECT_EQ(good, 2);
        EXPECT_THAT(Text(status),
                    AllOf(HasSubstr("rank 1"), HasSubstr("fake NCCL error 3"), HasSubstr("all_reduce of 100 f32")));
        EXPECT_TRUE(comm.rank() == 1 ? absl::IsUnavailable(status) : absl::IsAborted(status)) << status;
        EXPECT_EQ(comm.Barrier(), status);
        EXPECT_EQ(comm.CreateWindow(64).status(), status);
      });
  EXPECT_EQ(communicators_left_, 0);
  ASSERT_FALSE(node_.blames().empty());
  EXPECT_EQ(node_.blames()[0].rank, 1u);
}

// The agent hears of a communicator of some ranks as of that of all, whichever of its parts fails: whom it blames is a rank of the job.
TEST_F(NcclFailure, AnErrorInACommunicatorOfSomeRanksIsBlamedOnTheRankOfTheJob) {
  std::atomic<bool> fails{false};
  Run({.runs = [&](int rank, int64_t) { return rank == 1 && fails ? kNcclInternalError : kNcclOk; }}, [&](Communicator& world) {
    auto some = world.Split(world.rank() == 0 ? kNoColor : 0, -world.rank());
    ASSERT_TRUE(some.ok()) << some.status();
    if (world.rank() != 0) {
      DeviceBuffer data(cuda_, world.rank(), 400);
      EXPECT_TRUE((*some)->AllReduce(MakeTensor(data.data<float>(), 100), ReduceOp::kSum).ok());
      if (world.rank() == 1) fails = true;
      EXPECT_FALSE((*some)->AllReduce(MakeTensor(data.data<float>(), 100), ReduceOp::kSum).ok());
    }
    EXPECT_TRUE(world.Barrier().ok());
  });
  ASSERT_FALSE(node_.blames().empty());
  bool by_the_other = false;
  for (const FakeBlame& blame : node_.blames()) {
    EXPECT_EQ(blame.rank, 1u) << "said by rank " << blame.reporter;
    EXPECT_TRUE(blame.of_some_ranks);
    by_the_other = by_the_other || blame.reporter == 2;
  }
  EXPECT_TRUE(by_the_other);
}

TEST_F(NcclFailure, ALateRankOfACommunicatorOfSomeRanksIsBlamed) {
  Run({}, [this](Communicator& world) {
    auto some = world.Split(world.rank() == 0 ? kNoColor : 0, -world.rank());
    ASSERT_TRUE(some.ok()) << some.status();
    if (world.rank() == 1) {
      DeviceBuffer data(cuda_, 1, 400);
      const absl::Status status =
          (*some)->AllReduce(MakeTensor(data.data<float>(), 100), ReduceOp::kSum, absl::Now() + absl::Milliseconds(5));
      EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
    }
    EXPECT_TRUE(world.Barrier().ok());
  });
  ASSERT_EQ(node_.blames().size(), 1u);
  EXPECT_EQ(node_.blames()[0].reporter, 1);
  EXPECT_EQ(node_.blames()[0].rank, 2u);
  EXPECT_EQ(node_.blames()[0].reason, v1::AbortReason::kDeadline);
  EXPECT_TRUE(node_.blames()[0].of_some_ranks);
}

// NCCL knows that a peer is gone, and the launcher, some looks later, which.
TEST_F(NcclFailure, ALostPeerIsNamedByTheLauncher) {
  std::atomic<bool> reset{false};
  std::atomic<int> looks{0};
  Run(
      {.runs =
           [&](int rank, int64_t) {
             if (rank == 0) reset = true;
             return rank == 0 ? kNcclRemoteError : kNcclHangs;
           }},
      [&](Communicator& comm) {
        DeviceBuffer data(cuda_, comm.rank(), 40);
        const absl::Status status = comm.AllReduce(MakeTensor(data.data<float>(), 10), ReduceOp::kSum);
        EXPECT_TRUE(absl::IsUnavailable(status)) << status;
        EXPECT_THAT(Text(status), HasSubstr("rank 2 (fake-host): lost"));
        if (comm.rank() == 0) {
          EXPECT_THAT(Text(status), HasSubstr("fake NCCL error 6"));
        }
      },
      [&](int rank, NcclOptions& options) {
        if (rank != 0) return;
        options.interrupted = [&](Communicator& control) {
          if (reset && ++looks == 1000) node_.Kill(2);
          return WhyNativeIsOver(control);
        };
      });
  EXPECT_EQ(communicators_left_, 0);
}

TEST_F(NcclFailure, ALostPeerThatNobodyNamesEndsAllTheSame) {
  Run({.runs =
           [this](int rank, int64_t) {
             if (rank == 0) times_[0].moves = true;
             return rank == 0 ? kNcclRemoteError : kNcclHangs;
           }},
      [this](Communicator& comm) {
        DeviceBuffer data(cuda_, comm.rank(), 40);
        const absl::Status status = comm.AllReduce(MakeTensor(data.data<float>(), 10), ReduceOp::kSum);
        EXPECT_TRUE(comm.rank() == 0 ? absl::IsUnavailable(status) : absl::IsAborted(status)) << status;
        EXPECT_THAT(Text(status), AllOf(HasSubstr("rank 0"), HasSubstr("fake NCCL error 6")));
      });
  EXPECT_EQ(communicators_left_, 0);
}

TEST_F(NcclFailure, AKilledPeerEndsWhatRuns) {
  Run({.runs =
           [this](int rank, int64_t) {
             if (rank == 2) node_.Kill(2);
             return rank == 2 ? kNcclHangs : kNcclOk;
           }},
      [this](Communicator& comm) {
        DeviceBuffer data(cuda_, comm.rank(), 40);
        auto started = comm.StartAllReduce(MakeTensor(data.data<float>(), 10), ReduceOp::kSum);
        ASSERT_TRUE(started.ok());
        const absl::Status status = (*started)->Wait();
        EXPECT_TRUE(absl::IsUnavailable(status)) << status;
        EXPECT_THAT(Text(status), HasSubstr("rank 2 (fake-host): lost"));
      });
  EXPECT_EQ(communicators_left_, 0);
}

TEST_F(NcclFailure, AHangEndsAtTheDeadline) {
  Run({.runs =
           [this](int rank, int64_t collective) {
             if (collective == 1) times_[static_cast<size_t>(rank)].moves = true;
             return collective == 1 ? kNcclHangs : kNcclOk;
           }},
      [this](Communicator& comm) {
        DeviceBuffer data(cuda_, comm.rank(), 80);
        ASSERT_TRUE(comm.AllReduce(MakeTensor(data.data<double>(), 10), ReduceOp::kSum).ok());
        const absl::Status status =
            comm.AllReduce(MakeTensor(data.data<double>(), 10), ReduceOp::kSum, absl::Now() + absl::Minutes(1));
        EXPECT_TRUE(absl::IsDeadlineExceeded(status) || absl::IsAborted(status)) << status;
        EXPECT_THAT(Text(status),
                    AllOf(HasSubstr("the deadline passed"), HasSubstr("all_reduce of 10 f64"), HasSubstr("(GPU ")));
        EXPECT_EQ(comm.Barrier(), status);
      });
  EXPECT_EQ(communicators_left_, 0);
}

// With no deadline the watchdog warns, and ends it in the end.
TEST_F(NcclFailure, AHangWithoutADeadlineIsNamedAndEnds) {
  Mutex mutex;
  std::vector<std::string> lines;
  Run(
      {.runs =
           [this](int rank, int64_t) {
             if (rank == 1) times_[1].moves = true;
             return kNcclHangs;
           }},
      [this](Communicator& comm) {
        DeviceBuffer data(cuda_, comm.rank(), 40);
        const absl::Status status = comm.AllReduce(MakeTensor(data.data<int32_t>(), 10), ReduceOp::kSum);
        EXPECT_TRUE(comm.rank() == 1 ? absl::IsDeadlineExceeded(status) : absl::IsAborted(status)) << status;
        EXPECT_THAT(Text(status),
                    AllOf(HasSubstr("nothing had moved after 10m"), HasSubstr("rank 1 (GPU 1) during all_reduce of 10 i32")));
      },
      [&](int, NcclOptions& options) {
        options.warn = [&](const std::string& line) {
          MutexLock lock(mutex);
          lines.push_back(line);
        };
      });
  EXPECT_EQ(communicators_left_, 0);
  ASSERT_EQ(lines.size(), 5u) << "after 30 s, 1, 2, 4 and 8 minutes";
  EXPECT_THAT(lines[0],
              HasSubstr("rank 1 (GPU 1) during all_reduce of 10 i32: all ranks have called it, and NCCL 2.99.0 has not ended "
                        "it after 30s"));
}

TEST_F(NcclFailure, AnAbortDuringACollectiveReachesEveryRank) {
  std::atomic<int> running{0};
  Run({.runs =
           [&](int, int64_t) {
             ++running;
             return kNcclHangs;
           }},
      [&](Communicator& comm) {
        DeviceBuffer data(cuda_, comm.rank(), 40);
        auto started = comm.StartAllReduce(MakeTensor(data.data<float>(), 10), ReduceOp::kSum);
        ASSERT_TRUE(started.ok());
        while (running < kRanks) ::sched_yield();
        if (comm.rank() == 0) comm.Abort(absl::AbortedError("the disk is full"));
        const absl::Status status = (*started)->Wait();
        EXPECT_TRUE(absl::IsAborted(status)) << status;
        EXPECT_THAT(Text(status), AllOf(HasSubstr("rank 0"), HasSubstr("aborted: the disk is full")));
        EXPECT_EQ(comm.Barrier(), status);
      });
  EXPECT_EQ(communicators_left_, 0);
  EXPECT_EQ(cuda_.allocations(), 0);
}

// NCCL's abort hangs on rank 1: its call ends all the same, and says that the process has to.
TEST_F(NcclFailure, AnAbortThatHangsIsGivenUp) {
  std::array<std::atomic<bool>, kRanks> fixed = {};
  Run({.runs =
           [this](int rank, int64_t) {
             if (rank == 1) times_[1].moves = true;
             return kNcclHangs;
           },
       .abort_hangs = [](int rank) { return rank == 1; }},
      [&](Communicator& comm) {
        DeviceBuffer data(cuda_, comm.rank(), 40);
        const absl::Status status =
            comm.AllReduce(MakeTensor(data.data<float>(), 10), ReduceOp::kSum, absl::Now() + absl::Minutes(1));
        EXPECT_TRUE(comm.rank() == 1 ? absl::IsDeadlineExceeded(status) : absl::IsAborted(status)) << status;
        const std::string end = "NCCL's abort had not returned after 10s; this process has to end";
        EXPECT_THAT(Text(status),
                    comm.rank() == 1 ? testing::Matcher<std::string>(HasSubstr(end)) : testing::Not(HasSubstr(end)));
        EXPECT_EQ(comm.Barrier(), status);
        const Capabilities& can = comm.capabilities();
        EXPECT_EQ(can.membership_is_fixed, can.aborts_between_polls);
        fixed[static_cast<size_t>(comm.rank())] = can.membership_is_fixed;
        if (can.aborts_between_polls) data.Leave();
      });
  EXPECT_TRUE(fixed[1]);
  EXPECT_FALSE(fixed[0] || fixed[2]);
  EXPECT_EQ(communicators_left_, 1);
  EXPECT_EQ(cuda_.allocations(), 1) << "what NCCL may still write to stays";
  EXPECT_EQ(cuda_.streams(), 1);
}

TEST_F(NcclFailure, AFaultOfTheGpuEndsTheProcess) {
  std::atomic<int> running{0};
  Run({.runs =
           [&](int, int64_t) {
             if (++running == kRanks) cuda_.Poison(700);  // once all have put theirs on a stream
             return kNcclHangs;
           }},
      [this](Communicator& comm) {
        DeviceBuffer data(cuda_, comm.rank(), 40);
        const absl::Status status = comm.AllReduce(MakeTensor(data.data<float>(), 10), ReduceOp::kSum);
        EXPECT_TRUE(absl::IsUnavailable(status) || absl::IsAborted(status)) << status;
        EXPECT_THAT(Text(status), AllOf(HasSubstr("fake CUDA error 700"), HasSubstr("this process has to end")));
      });
}

// NCCL's word comes first: CUDA is asked whether the fault is one that stays.
TEST_F(NcclFailure, AFaultThatNcclSeesFirstEndsTheProcess) {
  for (const bool stays : {true, false}) {
    std::atomic<bool> fault{false};
    FakeCuda cuda({.devices = kRanks, .fails = [&](const std::string& call, int device) {
                     return fault && device == 1 && call != "EventDone" && call != "SetDevice" ? 700 : kCudaOk;
                   }});
    FakeNode node({.ranks = kRanks});
    FakeNccl nccl(cuda, {.runs = [](int rank, int64_t) { return rank == 1 ? kNcclUnhandledCudaError : kNcclOk; },
                         // Before that, another call of CUDA would see the fault first.
                         .is_asked_for_words =
                             [&](int rank) {
                               if (rank == 1) fault = stays;
                             }});
    RunNcclRanks(cuda, nccl, node, [&](Communicator& comm) {
      DeviceBuffer data(cuda, comm.rank(), 40);
      const absl::Status status = comm.AllReduce(MakeTensor(data.data<float>(), 10), ReduceOp::kSum);
      EXPECT_TRUE(comm.rank() == 1 ? absl::IsUnavailable(status) : absl::IsAborted(status)) << status;
      EXPECT_THAT(Text(status), AllOf(HasSubstr("rank 1"), HasSubstr("fake NCCL error 1")));
      const auto ends = AllOf(HasSubstr("fake CUDA error 700"), HasSubstr("this process has to end"));
      EXPECT_THAT(Text(status), stays ? testing::Matcher<std::string>(ends) : testing::Not(HasSubstr("has to end")));
      EXPECT_EQ(comm.capabilities().membership_is_fixed, stays && comm.rank() == 1);
      // Nor is there anything to be had of this GPU afterwards.
      if (stays && comm.rank() == 1) {
        EXPECT_EQ(comm.AllReduce(MakeTensor(data.data<float>(), 10), ReduceOp::kSum), status);
      }
    });
  }
}

TEST_F(NcclFailure, ADeadlineHoldsBehindStartedOperations) {
  Run({.runs = [](int, int64_t) { return kNcclHangs; }}, [this](Communicator& comm) {
    DeviceBuffer data(cuda_, comm.rank(), 40);
    auto started = comm.StartAllReduce(MakeTensor(data.data<float>(), 10), ReduceOp::kSum);
    ASSERT_TRUE(started.ok());
    const absl::Status status = comm.Barrier(absl::Now() + absl::Milliseconds(1));
    EXPECT_TRUE(absl::IsDeadlineExceeded(status) || absl::IsAborted(status)) << status;
    EXPECT_EQ((*started)->Wait(), status);
  });
  EXPECT_EQ(communicators_left_, 0);
}

}  // namespace
}  // namespace muster::test
