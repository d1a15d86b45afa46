// Who starts whom: nodes that are to be started at the same time, as trees in which no one starts more than so many.
#ifndef MUSTER_LAUNCHER_STARTER_START_TREE_H_
#define MUSTER_LAUNCHER_STARTER_START_TREE_H_

#include <cstdint>
#include <vector>

#include "muster/v1/start.pb.h"

namespace muster {

// At most `fan_out` (at least 1) roots, and as many children of each node, in order: the first of each part of the list starts the
// rest of it, and parts are as even as can be. Nodes of this machine are roots beside them and start nobody: the way to others is
// no shorter from there. Sets `through_agent` of all but the roots.
std::vector<v1::AgentStart> MakeStartTrees(std::vector<v1::AgentStart> starts, uint32_t fan_out);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_STARTER_START_TREE_H_
