// The coordinator's side of what nodes of one generation give each other: all-gathers of bytes by name, and questions to a rank's
// agent. Whom a gather waits for is told who waits. Pure. It knows nothing of what the bytes mean, and decides nothing about members:
// a generation that loses one ends, and all that waits here ends with it.
#ifndef MUSTER_LAUNCHER_EXCHANGE_EXCHANGE_TABLE_H_
#define MUSTER_LAUNCHER_EXCHANGE_EXCHANGE_TABLE_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "muster/v1/agent.pb.h"

namespace muster {

// Not thread-safe.
class ExchangeTable {
 public:
  struct Send {
    uint32_t node = 0;
    v1::CoordinatorMessage message;  // its kind and generation; the rest of the header is the caller's
  };

  // Whether `message` is for this table.
  static bool Takes(const v1::AgentMessage& message);

  // What `node` sent in `generation`, whose members are `members`. A generation other than the last one's forgets that one. What
  // is of another generation, of a node without a place, or of nobody's question is dropped and counted.
  std::vector<Send> Take(uint32_t node, uint64_t generation, const v1::Members& members, const v1::AgentMessage& message);

  uint64_t dropped() const { return dropped_; }
  size_t gathers_open() const { return gathers_.size(); }

 private:
  struct Gather {
    std::set<uint32_t> nodes;
    std::map<uint32_t, std::string> parts;  // by node
    size_t bytes = 0;
  };

  void Begin(uint64_t generation, const v1::Members& members);
  std::vector<Send> Contribute(uint32_t node, const v1::Contribution& contribution);
  std::vector<Send> Question(uint32_t node, const v1::RankQuestion& question);
  std::vector<Send> Answer(uint32_t node, const v1::RankAnswer& answer);
  std::vector<Send> TellAwaited(const std::string& name, const Gather& gather, uint32_t rank) const;
  std::vector<Send> Complete(const std::string& name, Gather gather);
  std::vector<Send> Refuse(const std::string& name, const std::set<uint32_t>& nodes, const std::string& why);
  std::vector<Send> RefuseQuestion(uint32_t node, uint64_t id, const std::string& why);
  Send To(uint32_t node) const;

  uint64_t generation_ = 0;
  std::set<uint32_t> nodes_;  // with a place
  std::map<uint32_t, uint32_t> node_of_rank_;
  std::map<std::string, Gather> gathers_;                        // by name, not done
  std::set<std::string> refused_;                                // names that nobody need wait for any more
  std::map<std::pair<uint32_t, uint64_t>, uint32_t> questions_;  // asker and its id -> who is to answer
  std::map<uint32_t, size_t> questions_of_;                      // by asker
  size_t bytes_ = 0;                                             // of all gathers
  uint64_t dropped_ = 0;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_EXCHANGE_EXCHANGE_TABLE_H_
