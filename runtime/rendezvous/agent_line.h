// The worker's line to its agent: joining, news of the generation, windows, reports, leaving.
#ifndef MUSTER_RUNTIME_RENDEZVOUS_AGENT_LINE_H_
#define MUSTER_RUNTIME_RENDEZVOUS_AGENT_LINE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/base/fd.h"
#include "runtime/base/frame.h"
#include "runtime/base/mutex.h"

namespace muster {

struct JoinRequest {
  std::string socket;  // abstract name
  std::string job_id;  // 16 bytes
  uint32_t slot = 0;
  int life_page_fd = -1;  // borrowed for the call
  std::string muster_version;
};

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
  UniqueFd control;
};

// Any thread may send; nothing blocks. Not usable in a child made by fork(): close descriptors() there and forget the object.
class AgentLine {
 public:
  // Called on the line's own thread.
  struct Events {
    std::function<void(uint32_t window, uint32_t local_rank, uint64_t bytes, UniqueFd memory)> window_shared;
    // At most once, and the last event: Aborted (the agent says that the generation is over) or Unavailable (the agent is
    // gone).
    std::function<void(absl::Status)> over;
  };

  // Says Hello and blocks until the agent answers with a generation, which goes to `membership`.
  // Errors: Unavailable (no agent, refused, ended), AlreadyExists (the slot has its session), DeadlineExceeded.
  static absl::StatusOr<std::unique_ptr<AgentLine>> Join(const JoinRequest& request, absl::Time deadline,
                                                         Membership* membership);
  ~AgentLine();  // stops listening and closes
  AgentLine(const AgentLine&) = delete;
  AgentLine& operator=(const AgentLine&) = delete;

  // Starts the thread that reads. Once.
  absl::Status Listen(Events events);

  // Errors: Unavailable (the agent is gone), ResourceExhausted (it does not read).
  absl::Status OfferWindow(uint32_t window, int fd, int64_t bytes);
  // A report that cannot be sent is dropped: an agent that is gone has no use for it.
  void ReleaseWindow(uint32_t window);
  void ReportStep(int64_t committed_step);
  void ReportBlame(uint32_t rank, v1::AbortReason reason, uint64_t op_seq, const std::string& message);
  void SayLeave();

  std::array<int, 2> descriptors() const { return {socket_.get(), wakeup_.get()}; }

 private:
  AgentLine(UniqueFd socket, UniqueFd wakeup, std::string job_id);
  absl::Status AwaitGeneration(absl::Time deadline, Membership* membership);
  absl::Status Send(const void* worker_message, const std::vector<int>& fds = {});
  void ReadAll();
  absl::Status ReadReady();
  absl::Status Dispatch(Frame frame);

  UniqueFd socket_;
  UniqueFd wakeup_;  // eventfd: something is queued, or stop
  const std::string job_id_;
  uint64_t generation_ = 0;  // set by Join
  FrameReader reader_;       // Join's thread, then the reading thread
  Events events_;
  std::thread thread_;

  Mutex mutex_;
  FrameWriter writer_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_RENDEZVOUS_AGENT_LINE_H_
