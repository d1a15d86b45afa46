// A WorkerPort on a loop of its own, with worker processes that it starts itself: the agent's side of the session, without an
// agent.
#ifndef MUSTER_TESTS_SUPPORT_LOCAL_AGENT_H_
#define MUSTER_TESTS_SUPPORT_LOCAL_AGENT_H_

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "launcher/agent/worker_port.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"
#include "runtime/base/mutex.h"

namespace muster::testing {

inline constexpr absl::Duration kTestPatience = absl::Seconds(60);

// Methods may be called from the test's thread only.
class LocalAgent {
 public:
  struct Event {
    enum Kind { kJoined, kLeft, kLost, kBlamed, kStep, kEnded, kRefused } kind;
    uint32_t slot = 0;
    uint32_t spawn = 0;
    absl::Time when;
    uint32_t blamed_rank = 0;
    v1::AbortReason reason = v1::AbortReason::kNone;
    std::string message;
    int64_t step = 0;
    int64_t checkpoint_step = 0;
    int wait_status = 0;
    uint64_t count = 0;  // kRefused: `message` says what
    bool of_some_ranks = false;  // kBlamed: of a communicator made by Split
  };

  LocalAgent();
  ~LocalAgent();  // kills and reaps what it has started, closes the port

  const std::string& job_id() const { return job_id_; }  // 16 bytes
  std::string job_id_hex() const;
  const std::string& socket() const { return socket_; }

  // On the loop's thread; returns when it is done.
  void Do(const std::function<void(WorkerPort&)>& act);

  // Starts a program as the worker of `slot`, stdout into a pipe that is kept for Output(). Does not begin a generation.
  // Each process of a slot has a spawn number one higher than the one before.
  pid_t Start(uint32_t slot, std::vector<std::string> argv, UniqueFd listener = UniqueFd());
  void Expect(uint32_t slot, pid_t pid, UniqueFd listener = UniqueFd());
  // Rank i in slot i.
  void Begin(uint32_t ranks, uint64_t generation = 1);
  // One of several nodes, all with this job id; `node`'s own ranks are those whose entry says so, in slots by local rank.
  void BeginNode(uint32_t node, std::vector<v1::PeerEntry> peers, uint64_t generation = 1);

  // Waits for the process of `slot`; its wait status. Fails the test after kTestPatience.
  int Join(uint32_t slot);
  // What the worker of `slot` has written, to its end. Once, after or before Join.
  std::string Output(uint32_t slot);
  // Blocks until the worker has written a line.
  std::string Line(uint32_t slot);

  std::vector<Event> events();
  // The first event that matches; fails the test after kTestPatience.
  Event Await(const std::function<bool(const Event&)>& matches);
  Event Await(Event::Kind kind, uint32_t slot);
  size_t Count(Event::Kind kind);
  // Until there are `count` events of `kind`, or any of `or_any`.
  void AwaitCount(Event::Kind kind, size_t count, Event::Kind or_any);

  // Closes the port, as the agent's death would.
  void ClosePort();

 private:
  void Record(Event event);
  LocalGeneration NewGeneration(uint64_t generation) const;
  void Begin(const LocalGeneration& local);

  struct Worker {
    uint32_t spawn = 0;
    pid_t pid = -1;
    UniqueFd pidfd;
    UniqueFd output;
  };

  const std::string job_id_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<WorkerPort> port_;
  std::string socket_;
  std::map<uint32_t, Worker> workers_;
  std::thread thread_;

  Mutex mutex_;
  CondVar changed_;
  std::vector<Event> events_ ABSL_GUARDED_BY(mutex_);
  std::array<size_t, 7> counts_ ABSL_GUARDED_BY(mutex_) = {};  // by kind
};

// The open descriptors of this process whose target's name contains `text`.
int CountDescriptors(const std::string& text);

}  // namespace muster::testing

#endif  // MUSTER_TESTS_SUPPORT_LOCAL_AGENT_H_
