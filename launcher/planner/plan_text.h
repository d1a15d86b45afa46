// A plan as lines of text.
#ifndef MUSTER_LAUNCHER_PLANNER_PLAN_TEXT_H_
#define MUSTER_LAUNCHER_PLANNER_PLAN_TEXT_H_

#include <string>
#include <vector>

#include "launcher/planner/compare.h"
#include "launcher/planner/plan.h"
#include "launcher/topology/cluster.h"
#include "launcher/topology/group_tree.h"

namespace muster {

// An order beside its name: "planned", "by host name".
struct NamedQuality {
  std::string name;
  OrderQuality quality;
};

// A table of crossings and bus bandwidth, a column for each order, the planned one first. What nothing is known of is left out.
std::string QualityText(const Cluster& cluster, const GroupTree& tree, const std::vector<NamedQuality>& orders);

// The ring as an indented list: groups in the order in which the ring goes through them, with the nodes and ranks of the innermost.
// At most kPlanLinesMax lines, then how many more there are.
inline constexpr size_t kPlanLinesMax = 200;
std::string RingText(const Cluster& cluster, const GroupTree& tree, const Plan& plan);

// "392 GB/s", three digits.
std::string BusText(double bytes_per_second);

// Names in their order, runs of consecutive numbers taken together: node[01-03],node07,login. Longer than `bytes_max` it ends with
// how many are left out.
std::string InOrderText(const std::vector<std::string>& names, size_t bytes_max);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PLANNER_PLAN_TEXT_H_
