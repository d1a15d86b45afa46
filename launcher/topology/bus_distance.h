// How far two devices are apart on the PCI bus.
#ifndef MUSTER_LAUNCHER_TOPOLOGY_BUS_DISTANCE_H_
#define MUSTER_LAUNCHER_TOPOLOGY_BUS_DISTANCE_H_

#include <string>
#include <vector>

#include "launcher/topology/cluster.h"

namespace muster {

// By the bridges above each, from its host bridge down to the nearest, each by a name of its own: PIX, PXB or PHB. Unknown where they
// share none: then memory nodes decide. Source: the legend of `nvidia-smi topo -m`.
PciDistance BusDistance(const std::vector<std::string>& one, const std::vector<std::string>& other);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_TOPOLOGY_BUS_DISTANCE_H_
