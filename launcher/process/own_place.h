// Where this node stands in the network, as its own surroundings say it.
#ifndef MUSTER_LAUNCHER_PROCESS_OWN_PLACE_H_
#define MUSTER_LAUNCHER_PROCESS_OWN_PLACE_H_

#include <string>
#include <vector>

#include "muster/v1/agent.pb.h"

namespace muster {

// By the variables of `environment` ("NAME=value"): Slurm's SLURM_TOPOLOGY_ADDR and SLURM_TOPOLOGY_ADDR_PATTERN; where those say nothing
// MUSTER_POD_LABELS, the path of the file that Kubernetes' downward API makes of the labels of the node, in the known dialects or by the
// keys of MUSTER_LABEL_KEYS (ParseLabelKeys).
// What cannot be read is a note, and no path. Without source: nobody says anything.
v1::NetworkPlace FindOwnPlace(const std::vector<std::string>& environment, const std::string& host);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_OWN_PLACE_H_
