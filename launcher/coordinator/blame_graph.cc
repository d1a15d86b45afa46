#include "launcher/coordinator/blame_graph.h"

#include <algorithm>
#include <deque>

namespace muster {

void BlameGraph::AddBlame(uint32_t rank, uint32_t blamed) {
  AddRank(rank);
  AddRank(blamed);
  if (rank == blamed) return;
  blames_[rank].insert(blamed);
  blamed_by_[blamed].insert(rank);
}

// `ranks` and all from which a chain of blames leads to them.
std::set<uint32_t> BlameGraph::LeadingTo(const std::set<uint32_t>& ranks) const {
  std::set<uint32_t> found = ranks;
  std::deque<uint32_t> open(ranks.begin(), ranks.end());
  while (!open.empty()) {
    for (const uint32_t before : blamed_by_.at(open.front())) {
      if (found.insert(before).second) open.push_back(before);
    }
    open.pop_front();
  }
  return found;
}

std::vector<uint32_t> BlameGraph::Roots() const {
  std::set<uint32_t> roots;
  for (const auto& [rank, by] : blamed_by_) {
    if (!blames_.contains(rank)) roots.insert(rank);
  }
  // What leads to no such rank leads into circles only. Of those the ranks that most others blame are taken, circle by circle.
  std::set<uint32_t> explained = LeadingTo(roots);
  while (explained.size() < blamed_by_.size()) {
    size_t most = 0;
    for (const auto& [rank, by] : blamed_by_) {
      if (!explained.contains(rank)) most = std::max(most, by.size());
    }
    std::set<uint32_t> picked;
    for (const auto& [rank, by] : blamed_by_) {
      if (!explained.contains(rank) && by.size() == most) picked.insert(rank);
    }
    roots.insert(picked.begin(), picked.end());
    explained.merge(LeadingTo(picked));
  }
  return {roots.begin(), roots.end()};
}

}  // namespace muster
