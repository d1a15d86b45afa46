// The agent's side of the Unix socket to workers that are linked with libmuster: joining, control memory, windows, death.
#ifndef MUSTER_LAUNCHER_AGENT_WORKER_PORT_H_
#define MUSTER_LAUNCHER_AGENT_WORKER_PORT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/base/event_loop.h"

namespace muster {

// A generation as this node's workers will see it. places[i] is local rank i.
struct LocalGeneration {
  uint64_t generation = 0;
  std::string job_id;  // 16 bytes
  std::string key;     // 32 bytes
  uint32_t world_size = 0;
  uint32_t restarts = 0;
  std::string host;
  struct Place {
    uint32_t slot = 0;
    uint32_t rank = 0;
  };
  std::vector<Place> places;
};

// The last operation a worker began, read from the control memory even after its death.
struct LastOperation {
  uint64_t op_seq = 0;      // 0: none
  std::string description;  // "all_reduce of 4096 f32 (sum)"
  bool finished = false;
};

// Belongs to the loop's thread. Connections are accepted only from processes of the same user that descend from the slot's worker
// (SO_PEERCRED, /proc); others are refused, counted and logged.
class WorkerPort {
 public:
  struct Events {
    std::function<void(uint32_t slot)> joined;
    std::function<void(uint32_t slot)> left;  // in good order
    // The life page fired or the worker's pidfd said so; the abort word is already set and every waiter woken.
    std::function<void(uint32_t slot)> lost;
    std::function<void(uint32_t slot, uint32_t blamed_rank, v1::AbortReason reason, uint64_t op_seq, std::string message)>
        blamed;
    std::function<void(uint32_t slot, int64_t step)> step_committed;
  };

  // Listens on a fresh abstract name.
  static absl::StatusOr<std::unique_ptr<WorkerPort>> Create(EventLoop* loop, Events events);
  virtual ~WorkerPort() = default;

  // For MUSTER_SOCKET.
  virtual const std::string& socket_name() const = 0;

  // Slots whose workers may join now; the answer to a Hello waits for BeginGeneration.
  virtual void ExpectWorker(uint32_t slot, pid_t pid) = 0;
  // Makes and seals the control memory and answers the workers that have said Hello, now and later.
  virtual absl::Status BeginGeneration(const LocalGeneration& generation) = 0;
  // The worker's process has ended (from the guard); wait_status as from waitpid. If its session was open: lost.
  virtual void WorkerEnded(uint32_t slot, int wait_status) = 0;
  // Aborts what is running and tells the workers; later joins are refused with `reason`.
  virtual void EndGeneration(const std::string& reason) = 0;

  virtual bool HasJoined(uint32_t slot) const = 0;
  virtual bool HasLeft(uint32_t slot) const = 0;
  virtual LastOperation LastOperationOf(uint32_t slot) const = 0;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_WORKER_PORT_H_
