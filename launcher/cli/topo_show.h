// muster topo show.
#ifndef MUSTER_LAUNCHER_CLI_TOPO_SHOW_H_
#define MUSTER_LAUNCHER_CLI_TOPO_SHOW_H_

#include <string>
#include <vector>

#include "launcher/cli/flags.h"

namespace muster {

// Gets the words behind `show`; returns the exit status.
int TopoShow(const std::vector<std::string>& arguments);

std::vector<FlagDescription> TopoShowFlags();

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_TOPO_SHOW_H_
