// muster topo check.
#ifndef MUSTER_LAUNCHER_CLI_TOPO_CHECK_H_
#define MUSTER_LAUNCHER_CLI_TOPO_CHECK_H_

#include <string>
#include <vector>

#include "launcher/cli/flags.h"

namespace muster {

// Gets the words behind `check`; returns the exit status.
int TopoCheck(const std::vector<std::string>& arguments);

std::vector<FlagDescription> TopoCheckFlags();

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_TOPO_CHECK_H_
