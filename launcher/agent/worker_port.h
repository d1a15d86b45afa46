// The agent's side of the Unix socket to workers that are linked with libmuster: joining, control memory, windows, death.
#ifndef MUSTER_LAUNCHER_AGENT_WORKER_PORT_H_
#define MUSTER_LAUNCHER_AGENT_WORKER_PORT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "muster/v1/agent.pb.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"
#include "runtime/base/refusal_tally.h"

namespace muster {

// A generation as this node's workers will see it. places[i] is local rank i.
struct LocalGeneration {
  uint64_t generation = 0;
  std::string job_id;       // 16 bytes
  std::string key;          // 32 bytes
  uint32_t world_size = 0;  // of all nodes
  uint32_t nodes = 1;
  uint32_t restarts = 0;
  std::string host;
  v1::CheckpointSettings checkpoint;
  struct Place {
    uint32_t slot = 0;
    uint32_t rank = 0;  // of the world
  };
  std::vector<Place> places;
  std::vector<v1::PeerEntry> peers;  // by rank of the world (PeersOf); none on a single node
};

// The last operation a worker began, read from the control memory even after its death.
struct LastOperation {
  uint64_t op_seq = 0;      // 0: none
  std::string description;  // "all_reduce of 4096 f32, sum"; "barrier in communicator 9f3b21 of 2 ranks" of one made by Split
  bool finished = false;
  std::string brief;        // "all_reduce of 4096 f32"
  uint64_t changed_ns = 0;  // CLOCK_MONOTONIC: when it ended, or began where it has not
  uint64_t communicator = 0;  // the number of one made by Split, in which `op_seq` counts; 0: that of all ranks
};

// Belongs to the loop's thread. Connections are accepted only from processes of the same user that descend from the slot's worker
// (SO_PEERCRED, /proc); others are refused, counted and logged.
//
// A slot has one process after the other, told apart by `spawn`; what comes late from or about an earlier one (a frame, a death)
// never reaches its successor. One generation goes like this, and the next one then begins the same way:
//   ExpectWorker..., BeginGeneration, WorkerEnded..., EndGeneration, ForgetWorkers.
class WorkerPort {
 public:
  struct Events {
    std::function<void(uint32_t slot, uint32_t spawn)> joined;
    std::function<void(uint32_t slot, uint32_t spawn)> left;  // in good order
    // The life page fired or the worker's pidfd said so; the abort word is already set and every waiter woken.
    std::function<void(uint32_t slot, uint32_t spawn)> lost;
    // `of_some_ranks`: a communicator made by Split is broken alone.
    std::function<void(uint32_t slot, uint32_t spawn, uint32_t blamed_rank, v1::AbortReason reason, uint64_t op_seq,
                       std::string message, bool of_some_ranks)>
        blamed;
    // `checkpoint_step`: of the newest checkpoint on disk, -1 for none.
    std::function<void(uint32_t slot, uint32_t spawn, int64_t step, int64_t checkpoint_step)> step_committed;
    // A worker has turned connections away, or this port has.
    std::function<void(RefusalCount refused)> refused;
  };

  // Listens on a fresh abstract name.
  static absl::StatusOr<std::unique_ptr<WorkerPort>> Create(EventLoop* loop, Events events);
  virtual ~WorkerPort() = default;

  // For MUSTER_SOCKET.
  virtual const std::string& socket_name() const = 0;

  // The process `pid` of `slot` may join now; the answer to its Hello waits for BeginGeneration. `listener`, where the world has
  // several nodes: goes to the worker with its generation, and is closed here then or when the worker has ended. After
  // EndGeneration this forgets the old workers and ends the refusing.
  virtual void ExpectWorker(uint32_t slot, uint32_t spawn, pid_t pid, UniqueFd listener = UniqueFd()) = 0;
  // Answers the workers that have said Hello, now and later. The control memory is made and sealed for the first of them: where that
  // fails later than here it is logged, and the generation ended.
  virtual absl::Status BeginGeneration(const LocalGeneration& generation) = 0;
  // The worker's process has ended (from the guard); wait_status as from waitpid. If its session was open: lost.
  virtual void WorkerEnded(uint32_t slot, uint32_t spawn, int wait_status) = 0;
  // Aborts what is running and tells the workers; joins are refused with `reason` until the next ExpectWorker.
  virtual void EndGeneration(const std::string& reason) = 0;
  // None of the workers lives any more: lets go of their connections, life pages and windows, and of the control memory.
  virtual void ForgetWorkers() = 0;

  // Of the slot's latest worker; false and none after ForgetWorkers.
  virtual bool HasJoined(uint32_t slot) const = 0;
  virtual bool HasLeft(uint32_t slot) const = 0;
  virtual pid_t SessionProcessOf(uint32_t slot) const = 0;  // 0: no session
  virtual LastOperation LastOperationOf(uint32_t slot) const = 0;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_WORKER_PORT_H_
