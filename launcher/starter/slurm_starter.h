// Agents on the nodes of an allocation of Slurm, by srun: a step of one task a node.
//
// Agents that are asked for in one turn of the loop share steps of up to kNodesOfStep nodes; one that is started again gets a step
// of its own beside the others (--overlap). A step's far ends hold their agents (start.proto), so that one agent can be ended without
// the others, also a stopped one. Whatever ends us ends srun's standard input, and the far ends with it; and whoever kills srun ends
// its step, since the process that srun leaves behind for this has Slurm kill all that runs in it.
#ifndef MUSTER_LAUNCHER_STARTER_SLURM_STARTER_H_
#define MUSTER_LAUNCHER_STARTER_SLURM_STARTER_H_

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "launcher/starter/line_child.h"
#include "launcher/starter/own_addresses.h"
#include "launcher/starter/slurm_command.h"
#include "launcher/starter/start_batch.h"
#include "launcher/starter/starter.h"
#include "muster/v1/start.pb.h"
#include "runtime/base/event_loop.h"

namespace muster {

struct SlurmStarterOptions {
  std::vector<std::string> hosts;      // by node, as Slurm names them
  std::string srun = "srun";           // a path, or a name for PATH
  std::string remote_muster;           // looked at first on the nodes; empty: not said
  std::string program;                 // path of `muster` here
  std::vector<std::string> arguments;  // more for each `muster agent`
  std::string listen;                  // the one address to offer and listen at; empty or a wildcard: all
};

class SlurmStarter final : public Starter {
 public:
  // Every node of a step is sent the tickets of all of them, some 2 KiB each.
  static constexpr size_t kNodesOfStep = 64;

  // `say`: a line for a person.
  // Errors: NotFound (no srun), InvalidArgument (no address at which nodes could reach this machine).
  static absl::StatusOr<std::unique_ptr<SlurmStarter>> Create(EventLoop* loop, SlurmStarterOptions options, Callbacks callbacks,
                                                              std::function<void(const std::string& line)> say);
  ~SlurmStarter() override;  // EndAll

  // Errors: FailedPrecondition (it still runs).
  absl::Status Start(uint32_t node, const std::string& coordinator, const std::string& ticket) override;
  // A node whose far end does not obey in 5 s takes its whole step with it.
  void End(uint32_t node) override;
  void EndAll() override;
  uint32_t running() const override { return static_cast<uint32_t>(step_of_.size() + asked_.size()); }
  bool sees_ends(uint32_t) const override { return true; }
  const std::string& listen_address() const override { return reachable_.listen_address; }
  const std::vector<std::string>& offers() const override { return reachable_.offers; }

 private:
  struct Step {
    std::unique_ptr<LineChild> srun;  // null: it could not be started
    std::string last_errors;
    std::set<uint32_t> nodes;  // of which nobody has said an end yet
    std::set<uint32_t> up;
    std::map<uint32_t, EventLoop::TimerId> patience;  // for those that shall end
  };

  SlurmStarter(EventLoop* loop, SlurmStarterOptions options, Callbacks callbacks,
               std::function<void(const std::string& line)> say);
  void StartAsked(const std::vector<v1::AgentStart>& asked);
  void StartStep(std::vector<v1::AgentStart> starts);
  absl::Status Run(Step* step, const std::vector<std::string>& hosts);
  void TakeLine(Step* step, absl::string_view text);
  void Cut(Step* step);
  // Returns whether the node was on the step.
  bool Leave(Step* step, uint32_t node);
  void Release(Step* step, const std::string& how);
  void Tell(uint32_t node, bool hopeless, std::string why);
  std::optional<uint32_t> NodeOf(absl::string_view host) const;

  EventLoop* const loop_;
  const SlurmStarterOptions options_;
  const Callbacks callbacks_;
  const std::function<void(const std::string& line)> say_;
  Reachable reachable_;
  StartBatch asked_;
  std::list<Step> steps_;
  std::map<uint32_t, Step*> step_of_;                           // by node
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for what is posted
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_STARTER_SLURM_STARTER_H_
