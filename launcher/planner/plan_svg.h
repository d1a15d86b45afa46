// A plan as a drawing: the ring beside that of another order.
#ifndef MUSTER_LAUNCHER_PLANNER_PLAN_SVG_H_
#define MUSTER_LAUNCHER_PLANNER_PLAN_SVG_H_

#include <string>
#include <vector>

#include "launcher/topology/cluster.h"
#include "launcher/topology/group_tree.h"

namespace muster {

// One of the circles side by side.
struct RingPanel {
  std::string title;                    // "planned"
  std::vector<std::string> captions;    // lines below
  std::vector<std::vector<int>> rings;  // each through all nodes; kDrawnRingsMax of them are drawn
};

// Nodes stand on a circle, group by group as in the first panel's first ring, with an arc for each group of each level and its name
// as long as there is room. Steps inside an innermost group are grey, those that leave one have the colour of the outermost level that
// they leave. Direct links between groups are dashed. Up to kDrawnRingNodesMax nodes; above, a dot is an innermost group, and steps
// between two groups are drawn once. The result is one SVG document, the same for the same input.
inline constexpr size_t kDrawnRingsMax = 4;
inline constexpr size_t kDrawnRingNodesMax = 512;
std::string PlanSvg(const Cluster& cluster, const GroupTree& tree, const std::string& title,
                    const std::vector<RingPanel>& panels);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PLANNER_PLAN_SVG_H_
