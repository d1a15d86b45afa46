#include "launcher/agent/life_watcher.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <vector>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "runtime/base/mutex.h"
#include "runtime/base/sealed_memory.h"
#include "runtime/rendezvous/life_line.h"
#include "tests/support/local_agent.h"

namespace muster {
namespace {

class Ends {
 public:
  void Note(uint64_t slot, LifeEnd end) {
    MutexLock lock(mutex_);
    ends_[slot].push_back(end);
    changed_.SignalAll();
  }
  LifeEnd Await(uint64_t slot) {
    const absl::Time deadline = absl::Now() + testing::kTestPatience;
    MutexLock lock(mutex_);
    while (ends_[slot].empty() && absl::Now() < deadline) changed_.WaitFor(mutex_, absl::Seconds(1));
    EXPECT_EQ(ends_[slot].size(), 1u);
    return ends_[slot].empty() ? LifeEnd::kLeft : ends_[slot][0];
  }
  size_t size() {
    MutexLock lock(mutex_);
    size_t slots = 0;
    for (const auto& [slot, ends] : ends_) slots += !ends.empty();
    return slots;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::map<uint64_t, std::vector<LifeEnd>> ends_ ABSL_GUARDED_BY(mutex_);
};

class LifeWatcherTest : public ::testing::TestWithParam<FutexWaiting> {};

TEST_P(LifeWatcherTest, TellsLeavingFromDying) {
  if (GetParam() == FutexWaiting::kVector && FutexWaitingHere() != FutexWaiting::kVector) GTEST_SKIP() << "no futex_waitv here";
  Ends ends;
  LifeWatcher watcher(GetParam(), [&](uint64_t life, LifeEnd end) { ends.Note(life, end); });
  auto leaves = LifeLine::Create(1).value();
  auto stays = LifeLine::Create(2).value();
  ASSERT_TRUE(watcher.Watch(1, MappedLifePage::Map(leaves->page_fd(), 1).value()).ok());
  ASSERT_TRUE(watcher.Watch(2, MappedLifePage::Map(stays->page_fd(), 2).value()).ok());

  // A child cannot inherit a life line: it makes its own page's holder in the memory that it was given.
  UniqueFd page = MakeSealedMemory("muster-life", v1::kLifePageBytes).value();
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    void* memory = MapSharedMemory(page.get(), v1::kLifePageBytes).value();
    auto* life = static_cast<v1::LifePage*>(memory);
    life->magic = v1::kLifePageMagic;
    life->version = v1::kLifePageVersion;
    life->slot = 3;
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&life->mutex, &attributes);
    pthread_mutex_lock(&life->mutex);
    life->state = v1::LifeState::kJoined;
    [[maybe_unused]] const ssize_t written = ::write(ready[1], "r", 1);
    while (true) ::pause();
  }
  char letter;
  ASSERT_EQ(::read(ready[0], &letter, 1), 1);
  ASSERT_TRUE(watcher.Watch(3, MappedLifePage::Map(page.get(), 3).value()).ok());
  EXPECT_EQ(ends.size(), 0u);

  leaves->Leave();
  EXPECT_EQ(ends.Await(1), LifeEnd::kLeft);
  ::kill(child, SIGKILL);
  EXPECT_EQ(ends.Await(3), LifeEnd::kDied);
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(ends.size(), 2u);
  watcher.Forget(2);
  stays->Leave();
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_P(LifeWatcherTest, MorePagesThanOneCallTakes) {
  if (GetParam() == FutexWaiting::kVector && FutexWaitingHere() != FutexWaiting::kVector) GTEST_SKIP() << "no futex_waitv here";
  constexpr uint32_t kPages = 150;
  Ends ends;
  std::vector<std::unique_ptr<LifeLine>> lines;
  LifeWatcher watcher(GetParam(), [&](uint64_t life, LifeEnd end) { ends.Note(life, end); });
  for (uint32_t slot = 0; slot < kPages; ++slot) {
    lines.push_back(LifeLine::Create(slot).value());
    ASSERT_TRUE(watcher.Watch(slot, MappedLifePage::Map(lines.back()->page_fd(), slot).value()).ok());
  }
  for (uint32_t slot = 0; slot < kPages; ++slot) {
    lines[(slot * 7) % kPages]->Leave();
    EXPECT_EQ(ends.Await((slot * 7) % kPages), LifeEnd::kLeft);
    EXPECT_EQ(ends.size(), slot + 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Both, LifeWatcherTest, ::testing::Values(FutexWaiting::kVector, FutexWaiting::kSingle));

TEST(MappedLifePage, TakesNothingElse) {
  auto line = LifeLine::Create(4).value();
  EXPECT_FALSE(MappedLifePage::Map(line->page_fd(), 5).ok()) << "another slot's";
  UniqueFd empty = MakeSealedMemory("muster-junk", v1::kLifePageBytes).value();
  EXPECT_FALSE(MappedLifePage::Map(empty.get(), 4).ok());
  UniqueFd small = MakeSealedMemory("muster-junk", 100).value();
  EXPECT_FALSE(MappedLifePage::Map(small.get(), 4).ok());
  EXPECT_FALSE(MappedLifePage::Map(STDERR_FILENO, 4).ok());
}

}  // namespace
}  // namespace muster
