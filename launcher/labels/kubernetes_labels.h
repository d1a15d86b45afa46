// Where Kubernetes' nodes stand in the network, by their labels.
#ifndef MUSTER_LAUNCHER_LABELS_KUBERNETES_LABELS_H_
#define MUSTER_LAUNCHER_LABELS_KUBERNETES_LABELS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "launcher/labels/labels.h"

namespace muster {

// A key and what its level is called here.
struct LabelKey {
  std::string key;
  std::string level;
};

// Keys that one cloud or tool writes together, the widest first. Names differ from cloud to cloud and from year to year, so none is
// wired in: a list of one's own replaces them all.
struct LabelDialect {
  std::string name;
  std::vector<LabelKey> keys;
};

// Those that are known, in the order of trust: what describes switches most closely comes first. Each is read behind
// topology.kubernetes.io/region and /zone.
const std::vector<LabelDialect>& KnownDialects();

// "topology.kubernetes.io/zone,example.com/rack" as a dialect of its own; a level is called after the last part of its key, or as
// KEY=LEVEL says. Errors: InvalidArgument with the word and the remedy.
absl::StatusOr<LabelDialect> ParseLabelKeys(absl::string_view list);

// `kubectl get nodes -o json` (a list), one such node, or an object {"node-a": {"KEY": "VALUE", ...}, ...}. `own_keys`: a list of one's
// own, which then is the only one; nullptr: the known ones. The result has a set for each dialect that any node speaks, in the order of
// trust, for ChooseLabels: it names the contradictions. Labels that some nodes lack and names under several parents are for LabelDoubts
// (group_tree.h). No set where no node has any of the keys, which is no error.
// Errors: InvalidArgument, "FILE:LINE:COLUMN: what is wrong; remedy".
// Source: kubernetes.io, "Well-Known Labels"; docs of GKE, EKS, OKE, NVIDIA topograph, as of 2026.
absl::StatusOr<std::vector<LabelSet>> ReadKubernetesNodes(const std::string& file, absl::string_view text,
                                                          const LabelDialect* own_keys = nullptr);

// The file that the downward API makes of labels (fieldRef metadata.labels): KEY="VALUE" lines, for the node that this is on.
// Errors: InvalidArgument, "FILE:LINE: ...".
absl::StatusOr<std::vector<LabelSet>> ReadDownwardLabels(const std::string& file, absl::string_view text,
                                                         const std::string& node, const LabelDialect* own_keys = nullptr);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_LABELS_KUBERNETES_LABELS_H_
