// Who blames whom, and where it ends. Pure.
#ifndef MUSTER_LAUNCHER_COORDINATOR_BLAME_GRAPH_H_
#define MUSTER_LAUNCHER_COORDINATOR_BLAME_GRAPH_H_

#include <cstdint>
#include <map>
#include <set>
#include <vector>

namespace muster {

class BlameGraph {
 public:
  // A rank that failed, whether or not anybody blames it.
  void AddRank(uint32_t rank) { blamed_by_[rank]; }
  // `rank` says that `blamed` is the reason. Blaming oneself is a confession: it adds no edge.
  void AddBlame(uint32_t rank, uint32_t blamed);

  // The ranks that blame nobody, in order; where a circle blames itself and nothing else, those of it that most others blame.
  std::vector<uint32_t> Roots() const;

 private:
  std::set<uint32_t> LeadingTo(const std::set<uint32_t>& ranks) const;

  std::map<uint32_t, std::set<uint32_t>> blames_;
  std::map<uint32_t, std::set<uint32_t>> blamed_by_;  // every rank of the graph has an entry
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_COORDINATOR_BLAME_GRAPH_H_
