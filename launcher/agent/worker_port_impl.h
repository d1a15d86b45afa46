// How worker_port.h is done: slots, who is in them, and the control memory of their generation.
#ifndef MUSTER_LAUNCHER_AGENT_WORKER_PORT_IMPL_H_
#define MUSTER_LAUNCHER_AGENT_WORKER_PORT_IMPL_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "launcher/agent/control_segment.h"
#include "launcher/agent/life_watcher.h"
#include "launcher/agent/worker_connections.h"
#include "launcher/agent/worker_port.h"
#include "launcher/agent/worker_resources.h"
#include "muster/v1/worker.pb.h"
#include "runtime/base/fd.h"
#include "runtime/base/frame.h"
#include "runtime/base/mutex.h"

namespace muster {

// One process of a slot, as the life watcher names it.
constexpr uint64_t LifeOf(uint32_t slot, uint32_t spawn) { return static_cast<uint64_t>(spawn) << 32 | slot; }
constexpr uint32_t SlotOfLife(uint64_t life) { return static_cast<uint32_t>(life); }
constexpr uint32_t SpawnOfLife(uint64_t life) { return static_cast<uint32_t>(life >> 32); }

// What the watching threads need of the port, which they must not touch.
class AbortTargets {
 public:
  void Set(std::shared_ptr<ControlSegment> control, const LocalGeneration& generation) {
    MutexLock lock(mutex_);
    control_ = std::move(control);
    rank_of_slot_.clear();
    for (const LocalGeneration::Place& place : generation.places) rank_of_slot_[place.slot] = place.rank;
  }
  // Only this process of the slot counts from now on.
  void Expect(uint32_t slot, uint32_t spawn) {
    MutexLock lock(mutex_);
    spawn_of_slot_[slot] = spawn;
  }
  void Clear() {
    MutexLock lock(mutex_);
    control_.reset();
    rank_of_slot_.clear();
    spawn_of_slot_.clear();
  }
  void AbortFor(uint64_t life, uint32_t detail) {
    MutexLock lock(mutex_);
    const auto rank = rank_of_slot_.find(SlotOfLife(life));
    const auto spawn = spawn_of_slot_.find(SlotOfLife(life));
    if (control_ == nullptr || rank == rank_of_slot_.end()) return;
    if (spawn == spawn_of_slot_.end() || spawn->second != SpawnOfLife(life)) return;
    control_->Abort(v1::PackAbort(v1::AbortReason::kPeerLost, rank->second, detail));
  }

 private:
  Mutex mutex_;
  std::shared_ptr<ControlSegment> control_ ABSL_GUARDED_BY(mutex_);
  std::map<uint32_t, uint32_t> rank_of_slot_ ABSL_GUARDED_BY(mutex_);  // of the world
  std::map<uint32_t, uint32_t> spawn_of_slot_ ABSL_GUARDED_BY(mutex_);
};

struct OfferedWindow {
  uint64_t communicator = 0;
  uint32_t window = 0;
  uint32_t local_rank = 0;
  uint64_t bytes = 0;
  std::shared_ptr<UniqueFd> memory;  // one for all members that have not got it yet
};

// EXPECTED -> JOINED -> LEFT | LOST; EXPECTED -> ENDED when the worker's process ends without ever joining.
enum class WorkerSlotState { kExpected, kJoined, kLeft, kLost, kEnded };

struct WorkerSlot {
  WorkerSlotState state = WorkerSlotState::kExpected;
  uint32_t spawn = 0;
  UniqueFd listener;   // for connections of its peers, until the worker has got it
  pid_t worker = 0;    // what the guard started
  pid_t session = 0;   // what joined: the worker or a descendant of it
  std::string job_id;  // as its Hello said
  std::shared_ptr<MappedLifePage> life;
  std::optional<WorkerConnections::Id> connection;
  bool member = false;                     // it has been sent the current generation
  std::vector<OfferedWindow> undelivered;  // until it is a member
  std::optional<int> wait_status;          // how it ended without joining
};

class WorkerPortImpl : public WorkerPort {
 public:
  WorkerPortImpl(EventLoop* loop, Events events);
  ~WorkerPortImpl() override;

  absl::Status Listen();

  const std::string& socket_name() const override { return connections_->name(); }
  void ExpectWorker(uint32_t slot, uint32_t spawn, pid_t pid, UniqueFd listener) override;
  absl::Status BeginGeneration(const LocalGeneration& generation) override;
  void WorkerEnded(uint32_t slot, uint32_t spawn, int wait_status) override;
  void EndGeneration(const std::string& reason) override;
  void ForgetWorkers() override;
  bool HasJoined(uint32_t slot) const override;
  bool HasLeft(uint32_t slot) const override;
  pid_t SessionProcessOf(uint32_t slot) const override;
  LastOperation LastOperationOf(uint32_t slot) const override;

 private:
  using Id = WorkerConnections::Id;

  absl::Status OnFrame(Id id, Frame frame);
  void OnClosed(Id id);
  absl::Status OnHello(Id id, v1::WorkerMessage message, Frame frame);
  absl::Status Join(Id id, const v1::WorkerMessage& message, const Frame& frame);
  bool MayComeToBeExpected(Id id, uint32_t slot) const;
  absl::Status CheckMayJoin(Id id, const v1::WorkerHello& hello) const;
  absl::Status OnMemberMessage(uint32_t slot, const v1::WorkerMessage& message, Frame frame);
  void OnBlame(uint32_t slot, const v1::Blame& blame);
  absl::Status ShareWindow(uint32_t slot, const v1::WindowOffer& offer, Frame frame);
  void Deliver(const WorkerSlot& slot, const OfferedWindow& window);

  void Forget(WorkerSlot& slot, uint32_t number);
  void OnRefused(RefusalCount refused) const;
  absl::Status MakeControl();
  void MakeMember(uint32_t local_rank);
  void AdviseWaiting();
  void OnLifeEnded(uint64_t life, LifeEnd end);
  void SetLeft(uint32_t slot);
  void SetLost(uint32_t slot, uint32_t detail);
  void AccountForEnded(uint32_t slot);

  const WorkerSlot* Find(uint32_t slot) const;
  std::optional<uint32_t> LocalRankOf(uint32_t slot) const;
  v1::AgentToWorker NewMessage() const;

  EventLoop* const loop_;
  const Events events_;
  std::map<uint32_t, WorkerSlot> slots_;
  std::map<Id, uint32_t> slot_of_;  // connections that have joined
  // A worker may be faster than the guard's word that it has started. The connections' own limits bound this.
  struct EarlyHello {
    v1::WorkerMessage message;
    Frame frame;
  };
  std::map<Id, EarlyHello> early_hellos_;
  std::optional<LocalGeneration> generation_;
  std::optional<std::string> over_;          // why nobody joins any more
  std::shared_ptr<ControlSegment> control_;  // of the generation, once a worker has joined
  WindowMemory window_memory_;
  int64_t quota_millicores_ = 0;
  int64_t stale_messages_ = 0;  // of other generations: dropped
  // Posted work may outlive the port: it looks here first.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  AbortTargets targets_;
  std::unique_ptr<WorkerConnections> connections_;
  LifeWatcher watcher_;  // destroyed first: its threads use the members above
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_WORKER_PORT_IMPL_H_
