// Which nodes are close to each other, by what was measured between some pairs of them. Pure.
#ifndef MUSTER_LAUNCHER_TOPOLOGY_MEASURED_GROUPS_H_
#define MUSTER_LAUNCHER_TOPOLOGY_MEASURED_GROUPS_H_

#include <string>
#include <vector>

#include "launcher/topology/cluster.h"

namespace muster {

struct MeasuredGroups {
  // The narrowest last, as Cluster's: names "measured-1" (widest) and on. None where all pairs are about alike.
  std::vector<std::string> levels;
  std::vector<std::vector<std::string>>
      labels;                      // by node, one for each level: "g0", "g1" ... in the order of their first nodes
  std::vector<std::string> notes;  // a sentence each: what was seen, and what does not fit
};

// Latencies fall into bands where there are switches: a pair below one leaf is in the lowest. Bands are apart where a value is at least
// `gap` times the one before it and both sides are no stray ones (fewer than an eighth as many pairs as nodes). For each band but the highest the
// nodes that hang together by pairs of it and of lower ones are a group. Where latencies show one band alone, bandwidths are
// looked at in the same way. A group that holds measured pairs of a higher band (more than a fifth of its pairs) is not believed, and its
// level is left out with a note.
MeasuredGroups InferGroups(int nodes, const std::vector<Cluster::Measurement>& measurements, double gap = 1.5);

// One node of each narrowest group: pairs among these tell whether two groups are one that too few pairs hold together.
std::vector<int> Representatives(const MeasuredGroups& groups);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_TOPOLOGY_MEASURED_GROUPS_H_
