// The coordinator's shell: carries out what Membership decides, on an event loop.
//
// Behind a gRPC server or an in-memory channel alike: whoever owns the streams calls OnMessage and AgentLost, and delivers what
// `send` is given, in order for each node.
#ifndef MUSTER_LAUNCHER_COORDINATOR_COORDINATOR_H_
#define MUSTER_LAUNCHER_COORDINATOR_COORDINATOR_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launcher/coordinator/membership.h"
#include "launcher/coordinator/record.h"
#include "launcher/exchange/exchange_table.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/file_system.h"

namespace muster {

struct CoordinatorOptions {
  membership::Options membership;
  std::string record_folder;    // empty: nothing is kept on disk
  Durability durability = Durability::kPowerLoss;
  FileSystem* files = nullptr;  // null: PosixFileSystem()
};

// Belongs to the loop's thread. Callbacks come from the loop, never from inside a call to this class.
class Coordinator {
 public:
  struct Callbacks {
    std::function<void(uint32_t node, const v1::CoordinatorMessage& message)> send;
    std::function<void(const Judgement& judgement)> finished;  // once, last of all
    // A generation failed and the job goes on. May be null.
    std::function<void(const Judgement& why, uint64_t next_generation, uint32_t restarts)> restarting;
    // What the user asked to see of where ranks go; lines without their end. May be null.
    std::function<void(const std::vector<std::string>& lines)> placed;
    // What `muster events` shows. May be null.
    std::function<void(const v1::JobEvent& event)> happened;
    std::function<void(LogLevel level, const std::string& line)> log;
  };

  // Errors: those of Record::Open (`muster` ends with 73 then).
  static absl::StatusOr<std::unique_ptr<Coordinator>> Create(EventLoop* loop, CoordinatorOptions options, Callbacks callbacks);
  ~Coordinator();

  // `node` is the number that the owner of the streams gave to the agent's stream; it keeps it when it comes back. The first
  // message of an agent is Join.
  void OnMessage(uint32_t node, v1::AgentMessage message);
  // The session of the node's agent is over, or its process; nothing of that session may come after this. `whole_node`: nothing of
  // the node answers, and not its agent alone is gone.
  void AgentLost(uint32_t node, std::string why, bool whole_node = false);
  // Nothing was heard of an agent whose session stands. To be called every second or so while that lasts (from 3 s on, say);
  // whether it is given up is decided here.
  void AgentSilent(uint32_t node, absl::Duration silent_for);
  // The nodes of `workers` of the wanted workers, all told, cannot be had: where fewer suffice those are not waited for.
  void FewerHopedFor(uint32_t workers, uint32_t node);
  // Its own door has turned a connection away.
  void TurnedAway(std::string what, std::string from);
  // A second request means now.
  void RequestStop(StopKind kind, std::string by = "", std::vector<v1::RankState> states = {});

  const Membership& membership() const { return membership_; }

 private:
  Coordinator(EventLoop* loop, std::unique_ptr<Record> record, membership::Options options, Callbacks callbacks);
  void Post(membership::Event event);
  void Step(const membership::Event& event);
  void Do(membership::Action& action);
  void Append(const membership::AppendRecord& append);
  void Exchange(uint32_t node, const v1::AgentMessage& message);

  EventLoop* const loop_;
  std::unique_ptr<Record> record_;  // null: none is kept
  Callbacks callbacks_;
  Membership membership_;
  ExchangeTable exchange_;
  std::optional<EventLoop::TimerId> timers_[membership::kTimers];
  // Posted work outlives this object; it looks here first.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_COORDINATOR_COORDINATOR_H_
