// A cluster file: muster's own words for nodes, switches and the speed of links.
#ifndef MUSTER_LAUNCHER_YAML_CLUSTER_FILE_H_
#define MUSTER_LAUNCHER_YAML_CLUSTER_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "launcher/topology/cluster.h"

namespace muster {

// One YAML document (JSON is one too), as docs/topology.md describes it:
//
//   levels:                                        # outermost first; a word alone is a name
//     - {name: spine, uplink: 3.2Tbit/s, latency: 2us}
//     - {name: leaf, uplink: 400Gbit/s, per_rail: false}
//   nodes:
//     - {name: "node[01-32]", labels: {spine: s0, leaf: l1}, gpus: 8, nics: [{name: mlx5_0, rail: 0, speed: 400Gbit/s}]}
//     - login                                      # a name alone: nothing more is known
//   uplinks: [{group: {spine: s0, leaf: l1}, speed: 200Gbit/s}]
//   links: [{from: {group: g0}, to: {group: g1}, speed: 100Gbit/s, latency: 1us}]
//   measurements: [{from: node01, to: node02, latency: 9us, speed: 90Gbit/s}]
//
// A name with ranges is several nodes alike, to which a label with ranges is dealt out in equal shares: node[01-64] with leaf[1-2] is
// 32 nodes on each of two leaves. In links and measurements a range is each with each. `gpus` and `nics` are numbers or lists of {name, numa} and {name, numa, rail, speed};
// `distances` (a row a GPU: PIX PXB PHB NODE SYS ?) and `nvlinks` (a row a GPU) are lists of lists. The result has passed CheckCluster.
// Errors: InvalidArgument; a line for each thing that is wrong, at most kClusterFileErrorsMax, as
//   cluster.yaml:7:12: nodes[3].labels.laef: there is no such level; did you mean leaf?
inline constexpr size_t kClusterFileErrorsMax = 20;
inline constexpr size_t kClusterFileBytesMax = 64 << 20;
absl::StatusOr<Cluster> ParseClusterFile(const std::string& file, absl::string_view text);

// "400Gbit/s", "50 GB/s", "1.5Tbit/s", "125000000B/s" in bytes a second. Errors: InvalidArgument with what would be right.
absl::StatusOr<double> ParseSpeed(absl::string_view text);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_YAML_CLUSTER_FILE_H_
