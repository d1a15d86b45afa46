// The worker's line to its agent: joining, news of the generation, windows, reports, leaving.
#ifndef MUSTER_RUNTIME_RENDEZVOUS_AGENT_LINE_H_
#define MUSTER_RUNTIME_RENDEZVOUS_AGENT_LINE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/base/fd.h"
#include "runtime/base/frame.h"
#include "runtime/base/mutex.h"
#include "runtime/base/refusal_tally.h"

namespace muster {

// This worker's place in a generation.
struct Membership {
  uint64_t generation = 0;
  uint32_t rank = 0;
  uint32_t world_size = 0;
  uint32_t local_rank = 0;
  uint32_t local_world_size = 0;
  uint32_t restarts = 0;
  std::string key;  // 32 bytes
  int64_t memory_limit_bytes = 0;
  std::string memory_limit_source;
  std::string host;
  uint32_t spawn = 0;           // counts processes of this slot
  uint32_t nodes = 1;           // more than one: the control memory holds a peer table
  std::string checkpoint_path;  // the job's settings; empty, 0: none said
  int64_t checkpoint_every_steps = 0;
  int32_t checkpoint_keep = 0;
  UniqueFd control;
  UniqueFd listener;  // where nodes > 1: on which this rank takes connections of its peers
};

// Any thread may send; nothing but Connect blocks. Not usable in a child made by fork(): close descriptors() there and forget
// it.
class AgentLine {
 public:
  // Called on the line's own thread, one at a time.
  struct Events {
    std::function<void(Membership)> begun;
    std::function<void(absl::Status)> refused;  // with the agent's reason
    // `communicator` 0: the one of all ranks.
    std::function<void(uint64_t communicator, uint32_t window, uint32_t local_rank, uint64_t bytes, UniqueFd memory)>
        window_shared;
    std::function<void(uint64_t generation, std::string message)> over;
    std::function<void(absl::Status)> closed;  // by the agent or because it cannot be understood; the last event
  };

  // `socket`: an abstract name; `job_id`: 16 bytes. Errors: InvalidArgument (no such name), Unavailable (nobody is there),
  // DeadlineExceeded (the agent does not accept).
  static absl::StatusOr<std::unique_ptr<AgentLine>> Connect(const std::string& socket, std::string job_id, absl::Time deadline);
  ~AgentLine();  // stops and closes
  AgentLine(const AgentLine&) = delete;
  AgentLine& operator=(const AgentLine&) = delete;

  // Starts the thread that reads. Once, before anything is sent.
  absl::Status Listen(Events events);
  // No event begins after this, except one that runs already. May be called by an event.
  void Stop();

  // Asks to join. Borrows the descriptor for the call.
  absl::Status SayHello(uint32_t slot, int life_page_fd, absl::string_view muster_version);

  // Errors: Unavailable (the agent is gone), ResourceExhausted (it does not read).
  // `members`: the local ranks that are to get it, at most kLocalRanksMax; none: all others.
  absl::Status OfferWindow(uint32_t window, int fd, int64_t bytes, uint64_t communicator = 0,
                           std::span<const uint32_t> members = {});
  // A report that cannot be sent is dropped: an agent that is gone has no use for it.
  void ReleaseWindow(uint32_t window);
  void ReportStep(int64_t committed_step, int64_t checkpoint_step = -1);
  void ReportBlame(uint32_t rank, v1::AbortReason reason, uint64_t op_seq, const std::string& message,
                   bool of_some_ranks = false);
  // A connection of a peer that was turned away. Sent at once, but one frame a second at most, like ones together.
  void ReportRefusal(std::string what, std::string from);
  // A clean end.
  void SayLeave();

  std::array<int, 2> descriptors() const { return {socket_.get(), wakeup_.get()}; }

 private:
  AgentLine(UniqueFd socket, UniqueFd wakeup, std::string job_id);
  absl::Status Send(const void* worker_message, const std::vector<int>& fds = {});
  absl::Status SendLocked(const void* worker_message, const std::vector<int>& fds) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TellRefusals(bool all) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Wake();
  void ReadAll();
  bool PollOnce();
  absl::Status ReadReady();
  absl::Status Dispatch(Frame frame);

  UniqueFd socket_;
  UniqueFd wakeup_;  // eventfd: something is queued, or stop
  const std::string job_id_;
  std::atomic<uint64_t> generation_ = 0;  // 0 before the first
  FrameReader reader_;                    // the reading thread's
  Events events_;
  std::thread thread_;
  std::atomic<bool> stop_ = false;

  Mutex mutex_;
  FrameWriter writer_ ABSL_GUARDED_BY(mutex_);
  RefusalTally refusals_ ABSL_GUARDED_BY(mutex_);
  int64_t next_refusals_at_ ABSL_GUARDED_BY(mutex_) = 0;  // MonotonicNanoseconds()
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_RENDEZVOUS_AGENT_LINE_H_
