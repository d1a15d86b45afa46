// An agent's side of what the nodes of one generation give each other (exchange_table.h): all-gathers of bytes by name, and
// questions to the agent of another node's rank.
#ifndef MUSTER_LAUNCHER_EXCHANGE_NODE_EXCHANGE_H_
#define MUSTER_LAUNCHER_EXCHANGE_NODE_EXCHANGE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "muster/v1/agent.pb.h"

namespace muster {

// Holds no thread and no clock. What `done` is given comes from inside Take or, where this node is the only one that takes part,
// from inside the call. At the end of a generation what is open is forgotten, and `done` is never called: whoever waited has ended.
class NodeExchange {
 public:
  using Parts = std::vector<std::pair<uint32_t, std::string>>;  // node, data; ascending

  // `send` fills in the header, the generation included.
  explicit NodeExchange(std::function<void(v1::AgentMessage message)> send) : send_(std::move(send)) {}

  // `node` is this one, `nodes` all that have places, ascending.
  void Begin(uint64_t generation, uint32_t node, std::vector<uint32_t> nodes);
  // Who answers is known. Other nodes may have begun before this one: what they have asked so far is answered now.
  void Listen();
  void End();

  // Gives `data` to all `nodes` that call this with the same `name`, unused before in this generation; empty: to all nodes. `rank` is
  // one of this node's that wait for it.
  // Errors in `done`: InvalidArgument (too long), FailedPrecondition (the coordinator refused it: why).
  void Gather(const std::string& name, const std::vector<uint32_t>& nodes, uint32_t rank, std::string data,
              std::function<void(absl::StatusOr<Parts>)> done);

  // Asks the agent of `rank`, on whichever node. Errors in `done`: as Gather; Unavailable where the other agent has no answer.
  void Ask(uint32_t rank, std::string data, std::function<void(absl::StatusOr<std::string>)> done);

  // Answers what other nodes ask; `reply` is to be called once, at any time. Null: nothing is known here.
  using Reply = std::function<void(absl::StatusOr<std::string>)>;
  using Answerer = std::function<void(uint32_t asker, uint32_t rank, std::string data, Reply reply)>;  // `asker`: a node
  void OnQuestion(Answerer answer) { answer_ = std::move(answer); }

  // Told that `rank`, of another node, waits for this one in the gather `name`.
  void OnAwaited(std::function<void(const std::string& name, uint32_t rank)> awaited) { awaited_ = std::move(awaited); }

  // Whether `message` is for this class, and what to do with it.
  static bool Takes(const v1::CoordinatorMessage& message);
  void Take(v1::CoordinatorMessage message);

 private:
  void ForgetGeneration();
  void Hold(v1::CoordinatorMessage message);
  void TakeQuestion(const v1::RankQuestion& question);

  std::function<void(v1::AgentMessage message)> send_;
  Answerer answer_;
  std::function<void(const std::string& name, uint32_t rank)> awaited_;
  uint64_t generation_ = 0;  // 0: none
  bool listening_ = false;
  std::vector<v1::CoordinatorMessage> held_;  // until then; kHeldBytesMax
  size_t held_bytes_ = 0;
  uint32_t node_ = 0;
  std::vector<uint32_t> nodes_;
  uint64_t next_question_ = 0;
  std::map<std::string, std::function<void(absl::StatusOr<Parts>)>> gathers_;
  std::map<uint64_t, std::function<void(absl::StatusOr<std::string>)>> questions_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_EXCHANGE_NODE_EXCHANGE_H_
