// What is known of the ways between the members of a group: its groups, or its nodes.
#ifndef MUSTER_LAUNCHER_PLANNER_SIBLING_COSTS_H_
#define MUSTER_LAUNCHER_PLANNER_SIBLING_COSTS_H_

#include <map>
#include <optional>
#include <vector>

#include "launcher/planner/bottleneck_cycle.h"
#include "launcher/planner/ring_order.h"
#include "launcher/topology/cluster.h"
#include "launcher/topology/group_tree.h"

namespace muster {

// Declared links come first; where a group's members have none, measurements between the nodes below two members are taken
// together by their medians, and a pair without any counts as the median pair. Where no bandwidth is known latency is the slowness.
class SiblingCosts {
 public:
  SiblingCosts(const Cluster& cluster, const GroupTree& tree);

  // The costs between the members of `group`, numbered as they stand in its children (or nodes); nothing where nothing is known.
  // An edge that is used in both directions (`both_ways`) is as good as the worse one.
  std::optional<EdgeCosts> Between(int group, bool both_ways) const;
  OrderedBy Source(int group) const;

 private:
  struct Samples {
    std::vector<double> bytes_per_second;
    std::vector<double> latency_ns;
  };
  struct Direct {
    double bytes_per_second;
    double latency_ns;
  };
  using Pair = std::pair<int, int>;  // members of one group

  EdgeCosts FromLinks(int size, const std::map<Pair, Direct>& links) const;
  EdgeCosts FromSamples(int size, const std::map<Pair, Samples>& samples) const;

  std::vector<int> members_;  // by group number: how many it has
  std::map<int, std::map<Pair, Direct>> links_;
  std::map<int, std::map<Pair, Samples>> samples_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PLANNER_SIBLING_COSTS_H_
