// Two jobs and their locks: what fcntl keeps apart are processes, so the other job is one.
#include "launcher/agent/core_locks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>

namespace muster {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const std::string kOurs(16, 'a'), kTheirs(16, 'b');

class CoreLocksTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/core-locks-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override {
    End();
    unlink((folder_ + "/muster-cores").c_str());
    rmdir(folder_.c_str());
  }
  CoreLocks Open(const std::string& job) {
    auto locks = CoreLocks::Open(job, folder_);
    EXPECT_TRUE(locks.ok()) << locks.status();
    return *std::move(locks);
  }
  // A process that does `what` with locks of its own and then waits to be killed.
  void Other(const std::string& job, const std::function<void(CoreLocks&)>& what) {
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    other_ = fork();
    if (other_ == 0) {
      CoreLocks locks = Open(job);
      what(locks);
      close(ready[0]);
      close(ready[1]);
      for (;;) pause();
    }
    close(ready[1]);
    char byte;
    EXPECT_EQ(read(ready[0], &byte, 1), 0);  // ends when it is ready
    close(ready[0]);
  }
  void End() {
    if (other_ <= 0) return;
    kill(other_, SIGKILL);
    waitpid(other_, nullptr, 0);
    other_ = 0;
  }

  std::string folder_;
  pid_t other_ = 0;
};

TEST_F(CoreLocksTest, WhatAnotherJobHoldsIsNamedWithItsProcess) {
  Other(kTheirs, [](CoreLocks& locks) {
    locks.Take({0, 1, 2, 3});
    locks.Settle({1, 2});
  });
  CoreLocks ours = Open(kOurs);
  const CoreLocks::Taken taken = ours.Take({0, 1, 2, 3, 700});
  EXPECT_TRUE(taken.settled);
  ASSERT_EQ(taken.held.size(), 1u);
  EXPECT_EQ(taken.held[0].cpus.ListText(), "1-2");
  EXPECT_EQ(taken.held[0].pid, other_);
  EXPECT_THAT(ours.Settle({0, 3}), IsEmpty());
  const auto shared = ours.Settle({0, 1});
  ASSERT_EQ(shared.size(), 1u);
  EXPECT_EQ(shared[0].cpus.ListText(), "1");
}

TEST_F(CoreLocksTest, WhoHasNotChosenYetIsWaitedFor) {
  Other(kTheirs, [](CoreLocks& locks) { locks.Take({0, 1}); });
  CoreLocks ours = Open(kOurs);
  EXPECT_FALSE(ours.Take({0, 1}).settled);
}

TEST_F(CoreLocksTest, AKilledJobHoldsNothing) {
  Other(kTheirs, [](CoreLocks& locks) {
    locks.Take({0, 1});
    locks.Settle({0, 1});
  });
  CoreLocks ours = Open(kOurs);
  EXPECT_EQ(ours.Take({0, 1}).held.size(), 1u);
  End();
  EXPECT_THAT(ours.Take({0, 1}).held, IsEmpty());
}

TEST_F(CoreLocksTest, NodesOfOneJobShareTheMachine) {
  Other(kOurs, [](CoreLocks& locks) { locks.Take({0, 1}); });
  CoreLocks ours = Open(kOurs);
  const CoreLocks::Taken taken = ours.Take({0, 1});
  EXPECT_TRUE(taken.settled);
  EXPECT_THAT(taken.held, IsEmpty());
  EXPECT_THAT(ours.Settle({0}), IsEmpty());
}

}  // namespace
}  // namespace muster
