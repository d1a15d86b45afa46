// A map as people read it: mpirun's line for each rank, and a table of nodes.
#ifndef MUSTER_LAUNCHER_PLACEMENT_MAP_TEXT_H_
#define MUSTER_LAUNCHER_PLACEMENT_MAP_TEXT_H_

#include <string>
#include <vector>

#include "launcher/placement/place.h"

namespace muster {

// mpirun's picture of a binding: brackets are packages, parts between '/' cores, and of each hardware thread 'B' means bound:
// "[BB/../..][../../..]".
std::string BindingPicture(const Topology& topology, const CpuSet& cpus);

// --report-bindings: "[node0] rank 3 bound to processors 4-5: [../../BB]", or "... is not bound".
std::string BindingLine(const std::string& host, uint32_t rank, const Topology& topology, const CpuSet& cpus);

// --display-map: a heading for each node with its slots, a line for each of its ranks with processors, memory nodes, and the GPUs
// and network interfaces that are nearest.
std::string MapTable(const PlacementMap& map, const std::vector<PlacementNode>& nodes);

// The devices of the smallest part of the machine around `cpus` that has any: "cuda0". Empty where there are none or no cpus.
std::vector<std::string> NearestDevices(const Topology& topology, const CpuSet& cpus, bool gpus);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PLACEMENT_MAP_TEXT_H_
