// A worker's line to an agent's port, as far as its first answer, within the test's own process.
#ifndef MUSTER_TESTS_SUPPORT_JOINED_LINE_H_
#define MUSTER_TESTS_SUPPORT_JOINED_LINE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "runtime/base/mutex.h"
#include "runtime/rendezvous/agent_line.h"
#include "runtime/rendezvous/life_line.h"
#include "tests/support/local_agent.h"

namespace muster::testing {

// What became of one Hello.
class Joined {
 public:
  // `page_fd`: a life page of the caller's own; -1: `life` is made.
  void Run(const LocalAgent& agent, uint32_t slot, absl::Duration patience, int page_fd = -1) {
    if (page_fd < 0) {
      life = LifeLine::Create(slot).value();
      page_fd = life->page_fd();
    }
    line = AgentLine::Connect(agent.socket(), agent.job_id(), absl::Now() + patience).value();
    AgentLine::Events events;
    events.begun = [this](Membership news) {
      membership = std::move(news);
      Finish(absl::OkStatus());
    };
    events.refused = [this](absl::Status reason) { Finish(reason); };
    events.window_shared = [](uint64_t, uint32_t, uint32_t, uint64_t, UniqueFd) {};
    events.over = [this](uint64_t, const std::string& message) {
      MutexLock lock(mutex_);
      over_ = message;
      changed_.SignalAll();
    };
    events.closed = [this](const absl::Status& reason) {
      Finish(reason);
      MutexLock lock(mutex_);
      closed_ = true;
      changed_.SignalAll();
    };
    ASSERT_TRUE(line->Listen(std::move(events)).ok());
    line->SayHello(slot, page_fd, "0.0-test").IgnoreError();
    const absl::Time deadline = absl::Now() + patience;
    MutexLock lock(mutex_);
    while (!finished_ && absl::Now() < deadline) changed_.WaitFor(mutex_, deadline - absl::Now());
    status = finished_ ? finish_ : absl::DeadlineExceededError("no answer");
  }

  std::string AwaitOver() {
    MutexLock lock(mutex_);
    while (over_.empty()) changed_.Wait(mutex_);
    return over_;
  }

  void AwaitClosed() {
    MutexLock lock(mutex_);
    while (!closed_) changed_.Wait(mutex_);
  }

  absl::Status status;
  Membership membership;
  std::unique_ptr<LifeLine> life;

 private:
  void Finish(absl::Status how) {
    MutexLock lock(mutex_);
    if (finished_) return;  // after a refusal the agent closes
    finished_ = true;
    finish_ = std::move(how);
    changed_.SignalAll();
  }

  Mutex mutex_;
  CondVar changed_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status finish_ ABSL_GUARDED_BY(mutex_);
  std::string over_ ABSL_GUARDED_BY(mutex_);

 public:
  std::unique_ptr<AgentLine> line;  // its thread uses all of the above
};

inline std::unique_ptr<Joined> JoinAs(const LocalAgent& agent, uint32_t slot, absl::Duration patience = kTestPatience,
                                      int page_fd = -1) {
  auto joined = std::make_unique<Joined>();
  joined->Run(agent, slot, patience, page_fd);
  return joined;
}

}  // namespace muster::testing

#endif  // MUSTER_TESTS_SUPPORT_JOINED_LINE_H_
