// A file that says where nodes stand, of whichever kind.
#ifndef MUSTER_LAUNCHER_LABELS_LABEL_FILE_H_
#define MUSTER_LAUNCHER_LABELS_LABEL_FILE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "launcher/labels/kubernetes_labels.h"
#include "launcher/labels/labels.h"

namespace muster {

enum class LabelFileKind {
  kGuess,       // by the text: what it begins with
  kCluster,     // muster's own (docs/topology.md): "cluster:"
  kSlurmConf,   // topology.conf, or what `scontrol show topology` prints: "slurm:"
  kSlurmYaml,   // topology.yaml: "slurm-yaml:", or "slurm-yaml/NAME:" for one of its topologies
  kKubernetes,  // nodes as JSON: "kubernetes:"
  kPodLabels,   // the downward API's file, of this node: "pod-labels:"
};

struct LabelFile {
  LabelFileKind kind = LabelFileKind::kGuess;
  std::string topology;  // of kSlurmYaml; empty: the file's default
  std::string path;
};

// "KIND:PATH" or "PATH". A word before the ':' that is no kind belongs to the path. Errors: InvalidArgument (no path, a kind that
// nobody knows but that is near to one).
absl::StatusOr<LabelFile> ParseLabelFile(const std::string& word);

// What the text looks like; never kGuess. A text that nobody can make out is kSlurmConf: its reader says what it expected.
LabelFileKind GuessKind(absl::string_view text);

// The sets of one file of labels, the most trusted first; `kind` is none of kGuess and kCluster. `own_keys`: of Kubernetes; nullptr: the
// known dialects. `own_node`: whose labels a kPodLabels file has.
// Errors: InvalidArgument, of the kind's reader.
absl::StatusOr<std::vector<LabelSet>> ReadLabelFile(const LabelFile& file, LabelFileKind kind, absl::string_view text,
                                                    const LabelDialect* own_keys, const std::string& own_node);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_LABELS_LABEL_FILE_H_
