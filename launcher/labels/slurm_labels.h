// Where Slurm's nodes stand in its network: its variables and its files.
#ifndef MUSTER_LAUNCHER_LABELS_SLURM_LABELS_H_
#define MUSTER_LAUNCHER_LABELS_SLURM_LABELS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "launcher/labels/labels.h"

namespace muster {

// SLURM_TOPOLOGY_ADDR and SLURM_TOPOLOGY_ADDR_PATTERN, which Slurm gives each task of a node: "root.cell1.leaf7.node386" with
// "switch.switch.switch.node"; topology/block has "block.node", topology/torus3d "name:0:1:2.node" with "torus:x:y:z.node". The
// lowest switch is the label's level leaf, the one above spine, then tier-2 and so on. The pattern "node" alone means that Slurm knows
// no network: the path is empty. A part in brackets ("s[1-2]") is a group of switches that the node hangs on together, and is one
// label. A level at which the node has no switch is left out.
// Errors: InvalidArgument that names the variable, what does not fit, and what is then done (the node has no place).
// Source: srun(1) of Slurm 22.05, "Output environment variables"; src/plugins/topology.
absl::StatusOr<NodeLabels> ReadSlurmAddress(absl::string_view address, absl::string_view pattern);

// topology.conf(5), and what `scontrol show topology` prints: lines of SwitchName=, Nodes=, Switches= or of BlockName=, Nodes= and one
// BlockSizes=. Names are hostlists (tux[0-3,12]). Letters' case in keys does not matter; '#' begins a comment, '\' at the end of a line
// joins the next. Blocks of the sizes above the first are parts of the network too: blocks that follow each other.
//
// Not an error, but a note: a node below several leaf switches (the first is taken), a switch below several (likewise), a switch that
// is named but not defined, or defined and empty.
// Errors: InvalidArgument, "FILE:LINE: what is wrong; remedy": a line that cannot be read, a name that is defined twice, a circle,
// blocks and switches in one file.
// Source: topology.conf(5) of Slurm 22.05 and 24.05.
absl::StatusOr<LabelSet> ReadSlurmTopologyConf(const std::string& file, absl::string_view text);

// topology.yaml(5) of Slurm 25.05: a list of topologies, each a tree, a block or flat. `name` chooses one; empty: the first with
// `cluster_default: true`, else the first.
// Errors: InvalidArgument, "FILE:LINE:COLUMN: what is wrong; remedy".
absl::StatusOr<LabelSet> ReadSlurmTopologyYaml(const std::string& file, absl::string_view text, const std::string& name = "");

}  // namespace muster

#endif  // MUSTER_LAUNCHER_LABELS_SLURM_LABELS_H_
