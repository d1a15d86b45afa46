#include "runtime/backend/shared/progress.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <vector>

#include "proto/muster/v1/waiting_policy.h"
#include "runtime/base/clock.h"
#include "tests/support/fake_node.h"

namespace muster {
namespace {

// Runs an operation by noting its count, once it is let.
class Recorder {
 public:
  Progress::Run run() {
    return [this](const Operation& operation, const std::atomic<int>* callers_inside) {
      while (!go_) ::sched_yield();
      callers_seen_ = callers_inside->load();
      ran_.push_back(operation.what.count);
      return operation.what.count < 0 ? absl::AbortedError("as asked") : absl::OkStatus();
    };
  }
  void Go() { go_ = true; }
  const std::vector<int64_t>& ran() const { return ran_; }
  int callers_seen() const { return callers_seen_; }

 private:
  std::atomic<bool> go_{false};
  std::atomic<int> callers_seen_{-1};
  std::vector<int64_t> ran_;
};

Operation Number(int64_t n) {
  Operation operation;
  operation.what.count = n;
  return operation;
}

TEST(Progress, RunsInTheOrderStartedAndReportsEachResult) {
  Recorder recorder;
  Progress progress(recorder.run());
  EXPECT_TRUE(progress.IsIdle());
  auto first = progress.Start(Number(1));
  auto second = progress.Start(Number(-2));
  auto third = progress.Start(Number(3));
  ASSERT_TRUE(first.ok() && second.ok() && third.ok());
  EXPECT_FALSE((*third)->IsDone());
  EXPECT_EQ((*third)->EndTime(), absl::InfinitePast());
  EXPECT_FALSE(progress.IsIdle());
  EXPECT_FALSE(progress.WaitUntilIdle(MonotonicNanoseconds()));
  EXPECT_FALSE(progress.WaitUntilIdle(MonotonicDeadline(absl::InfinitePast())));
  recorder.Go();
  EXPECT_TRUE(progress.WaitUntilIdle(INT64_MAX));
  EXPECT_EQ(recorder.ran(), (std::vector<int64_t>{1, -2, 3}));
  EXPECT_TRUE((*third)->IsDone());
  EXPECT_TRUE((*first)->Wait().ok());
  EXPECT_EQ((*second)->Wait(), absl::AbortedError("as asked"));
  EXPECT_EQ((*second)->Wait(), absl::AbortedError("as asked"));
  EXPECT_LE((*first)->EndTime(), (*third)->EndTime());
}

TEST(Progress, FinishesWhatWasStartedBeforeItGoes) {
  Recorder recorder;
  std::unique_ptr<Work> work;
  {
    Progress progress(recorder.run());
    work = *progress.Start(Number(1));
    recorder.Go();
  }
  EXPECT_TRUE(work->IsDone());
  EXPECT_EQ(recorder.ran().size(), 1u);
}

// A child made by fork() has no progress thread and must still be able to exit in the ordinary way.
TEST(Progress, DestroyedInAForkedChildDoesNothing) {
  Recorder recorder;
  recorder.Go();
  auto progress = std::make_unique<Progress>(recorder.run());
  ASSERT_TRUE((*progress->Start(Number(1)))->Wait().ok());
  const pid_t child = ::fork();
  if (child == 0) {
    progress.reset();
    ::_exit(0);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

std::atomic<pid_t> handled_by{0};

// A signal for the process waits for a thread of the user's, even while none takes it.
TEST(Progress, LeavesSignalsToTheUsersThreads) {
  struct sigaction action = {}, old_action;
  action.sa_handler = [](int) { handled_by = ::gettid(); };
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &old_action), 0);
  Recorder recorder;
  recorder.Go();
  Progress progress(recorder.run());
  ASSERT_TRUE((*progress.Start(Number(1)))->Wait().ok());
  sigset_t user1, before;
  sigemptyset(&user1);
  sigaddset(&user1, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &user1, &before);
  ASSERT_EQ(::kill(::getpid(), SIGUSR1), 0);
  ASSERT_TRUE((*progress.Start(Number(2)))->Wait().ok());  // the progress thread has been in the kernel and back
  EXPECT_EQ(handled_by, 0);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  EXPECT_EQ(handled_by, ::gettid());
  ::sigaction(SIGUSR1, &old_action, nullptr);
}

// While the caller computes, the progress thread must leave it the processor: it neither spins nor yields, it sleeps.
TEST(Progress, SleepsAtOnceWhileTheCallerIsOutsideTheLibrary) {
  test::FakeNode node({.ranks = 2});
  v1::StoreWaitingAdvice({v1::kSpinNanoseconds, v1::kYields, false}, node.control()->waiting);
  std::atomic<bool> sleeping{false};
  test::RunRanks(node, [&](Communicator& comm) {
    const v1::RankArea& area = v1::RankAreaOf(node.control(), 0);
    if (comm.rank() == 1) {
      while (!sleeping) ::sched_yield();
      EXPECT_TRUE(comm.Barrier().ok());
      return;
    }
    auto work = comm.StartBarrier();
    ASSERT_TRUE(work.ok());
    const int64_t end = MonotonicNanoseconds() + 60'000'000'000;
    while (area.asleep.load() == 0 && MonotonicNanoseconds() < end) ::sched_yield();
    EXPECT_EQ(area.asleep.load(), 1u);
    EXPECT_EQ(area.yields.load(), 0u);
    sleeping = true;
    EXPECT_TRUE((*work)->Wait().ok());
    EXPECT_EQ(area.late_wakes.load(), 0u);
  });
}

}  // namespace
}  // namespace muster
