// Slurm's switches and blocks, however they were written, as labels of nodes.
#ifndef MUSTER_LAUNCHER_LABELS_SLURM_TREE_H_
#define MUSTER_LAUNCHER_LABELS_SLURM_TREE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launcher/labels/labels.h"

namespace muster {

struct SlurmSwitch {
  std::string name;
  std::string place;                  // "topology.conf:3"
  std::vector<std::string> switches;  // below it
  std::vector<std::string> nodes;     // on it
};

struct SlurmBlock {
  std::string name;
  std::string place;
  std::vector<std::string> nodes;
};

// What a level of switches is called whose lowest is at height 0: leaf, spine, tier-2 ...
std::string SwitchLevel(size_t height);

// Labels of all nodes, in the order of the switches. Errors and notes as ReadSlurmTopologyConf.
absl::StatusOr<LabelSet> LabelsOfSwitches(const std::string& source, const std::vector<SlurmSwitch>& switches);

// `sizes` in nodes, the base block's first; each above it is a run of so many consecutive blocks. May be empty.
// Errors: InvalidArgument (a size that is no multiple of the one before, a node of two blocks); `sizes_place` is where sizes stand.
absl::StatusOr<LabelSet> LabelsOfBlocks(const std::string& source, const std::vector<SlurmBlock>& blocks,
                                        const std::vector<int64_t>& sizes, const std::string& sizes_place);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_LABELS_SLURM_TREE_H_
