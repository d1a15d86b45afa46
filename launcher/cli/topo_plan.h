// muster topo plan.
#ifndef MUSTER_LAUNCHER_CLI_TOPO_PLAN_H_
#define MUSTER_LAUNCHER_CLI_TOPO_PLAN_H_

#include <string>
#include <vector>

#include "launcher/cli/flags.h"

namespace muster {

// Gets the words behind `plan`; returns the exit status.
int TopoPlan(const std::vector<std::string>& arguments);

std::vector<FlagDescription> TopoPlanFlags();

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_TOPO_PLAN_H_
