// A guard under test: the real muster-guard, its client on an event loop, and what its workers said and did.
#ifndef MUSTER_TESTS_SUPPORT_GUARD_GUARD_FIXTURE_H_
#define MUSTER_TESTS_SUPPORT_GUARD_GUARD_FIXTURE_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "launcher/guard/guard_client.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

class GuardFixture : public ::testing::Test {
 protected:
  struct WorkerSeen {
    pid_t pid = -1;
    UniqueFd pidfd;
    int wait_status = -1;
    int error = 0;
    std::string stage;
    bool ended = false;  // or failed
    std::string output;  // its stdout
    bool output_ended = false;
  };

  void SetUp() override {
    auto loop = EventLoop::Create();
    ASSERT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
  }

  void StartGuard(const std::string& session_folder = "") {
    GuardClient::Events events;
    events.spawned = [this](uint32_t slot, pid_t pid, UniqueFd pidfd) {
      seen_[slot].pid = pid;
      seen_[slot].pidfd = std::move(pidfd);
    };
    events.spawn_failed = [this](uint32_t slot, int error, const std::string& stage) {
      seen_[slot].error = error;
      seen_[slot].stage = stage;
      seen_[slot].ended = true;
    };
    events.ended = [this](uint32_t slot, int wait_status) {
      EXPECT_FALSE(seen_[slot].ended) << "ended twice";
      seen_[slot].wait_status = wait_status;
      seen_[slot].ended = true;
    };
    events.tree_ended = [this] { tree_ended_ = true; };
    events.lost = [this] { lost_ = true; };
    auto guard = GuardClient::Start(loop_.get(), MUSTER_GUARD_PATH, session_folder, std::move(events));
    ASSERT_TRUE(guard.ok()) << guard.status();
    guard_ = *std::move(guard);
  }

  // Its stdin is /dev/null, its stdout comes into seen_[slot].output, its stderr is the test's.
  SpawnRequest Request(uint32_t slot, std::vector<std::string> argv) {
    SpawnRequest request;
    request.slot = slot;
    request.program = argv[0];
    request.argv = std::move(argv);
    request.env = {"PATH=/usr/bin:/bin"};
    request.stdin_fd = UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC));
    request.stdout_fd = ReadOutput(slot);
    request.stderr_fd = UniqueFd(dup(2));
    return request;
  }

  UniqueFd ReadOutput(uint32_t slot) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const int read_end = ends[0];
    readers_.emplace_back(read_end);
    const absl::Status added = loop_->Add(read_end, EPOLLIN, [this, slot, read_end](uint32_t) {
      char text[4096];
      const ssize_t bytes = read(read_end, text, sizeof text);
      if (bytes > 0) seen_[slot].output.append(text, static_cast<size_t>(bytes));
      if (bytes > 0) return;
      seen_[slot].output_ended = true;
      loop_->Remove(read_end);
    });
    EXPECT_TRUE(added.ok()) << added;
    return UniqueFd(ends[1]);
  }

  // Runs the loop until `done`; false after a generous deadline.
  bool RunUntil(const std::function<bool()>& done) {
    bool late = false;
    const auto timer = loop_->After(absl::Seconds(30), [&] {
      late = true;
      loop_->Quit();
    });
    while (!late && !done()) {
      // One round of the loop: Quit is posted, so everything that is ready is served first.
      const auto tick = loop_->After(absl::Milliseconds(1), [&] { loop_->Quit(); });
      loop_->Run();
      loop_->Cancel(tick);
    }
    loop_->Cancel(timer);
    return !late;
  }

  bool RunUntilEnded(uint32_t slot) {
    return RunUntil([this, slot] { return seen_[slot].ended && (seen_[slot].error != 0 || seen_[slot].output_ended); });
  }

  std::unique_ptr<EventLoop> loop_;
  std::vector<UniqueFd> readers_;
  std::map<uint32_t, WorkerSeen> seen_;
  bool tree_ended_ = false;
  bool lost_ = false;
  std::unique_ptr<GuardClient> guard_;
};

}  // namespace muster

#endif  // MUSTER_TESTS_SUPPORT_GUARD_GUARD_FIXTURE_H_
