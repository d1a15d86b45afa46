// Where nodes stand in the network, as one source says it.
//
// A source (a file, Slurm, Kubernetes, a measurement) gives each node a path of labels from the widest part of the network to the
// narrowest: {datacenter: east}, {spine: s4}, {leaf: l17}. Nodes whose paths begin alike share that part. A value means something
// under its parent only: leaf l1 of spine s1 is another leaf than l1 of s2. All of this is plain data; readers make it from text.
#ifndef MUSTER_LAUNCHER_LABELS_LABELS_H_
#define MUSTER_LAUNCHER_LABELS_LABELS_H_

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "launcher/topology/cluster.h"

namespace muster {

struct Label {
  std::string level;  // "spine", "leaf", "switch", "zone": the source's word
  std::string value;
  friend bool operator==(const Label&, const Label&) = default;
};

struct NodeLabels {
  std::string node;         // as the source names it
  std::vector<Label> path;  // widest first; empty: the source knows the node, but not where it stands
  friend bool operator==(const NodeLabels&, const NodeLabels&) = default;
};

struct LabelSet {
  std::string source;              // for sentences: "topology.conf", "Slurm's variables"
  std::vector<NodeLabels> nodes;   // each node once
  std::vector<std::string> notes;  // what the source leaves out or contradicts, and what is taken instead: a sentence each
};

// Of one set and of one file; readers refuse more.
inline constexpr size_t kLabelledNodesMax = kClusterNodesMax;
inline constexpr size_t kLabelDepthMax = kClusterLevelsMax;
inline constexpr size_t kLabelFileBytesMax = 64 << 20;

// "spine s4, leaf l17"; "nowhere" for an empty path.
std::string PathText(const std::vector<Label>& path);

// Finds nodes of a set under the names that a job has for them: as written, else without what follows the first '.' where that names
// one node only ("node-a.cluster.example" is node-a). A pod, whose host is called POD@NODE, stands where its node stands.
class LabelIndex {
 public:
  explicit LabelIndex(const LabelSet& set);  // borrowed
  // nullptr: the set does not know the node.
  const NodeLabels* Find(absl::string_view node) const;

 private:
  std::map<std::string, const NodeLabels*, std::less<>> exact_;
  std::map<std::string, const NodeLabels*, std::less<>> short_;  // nullptr: several nodes have this short name
};

// One set for `nodes` (a job's, in its order; the result keeps it) from several, the most trusted first.
//
// The first set that knows where any of the nodes stands is taken. Nodes that it does not know have an empty path (LabelDoubts of
// group_tree.h says what becomes of them). Other sets are not mixed in, because their names mean nothing beside the first one's; but
// each is compared with it, and where one puts nodes together that the other keeps apart and the reverse, a note names nodes, both
// sides and what was taken. Notes of the set that was taken come first. With no set, or none that knows any of the nodes, `source` is
// empty. `taken`: the place of the set that was taken, by_trust.size() for none; may be null.
LabelSet ChooseLabels(const std::vector<LabelSet>& by_trust, const std::vector<std::string>& nodes, size_t* taken = nullptr);

// A sentence where the two groupings cannot both be true of one tree, for the nodes that both know; else empty.
std::string Contradiction(const LabelSet& taken, const LabelSet& other, const std::vector<std::string>& nodes);

// The set as a cluster: a level for each of its levels, in the order of the paths. A node that has no label of a level has an empty one
// there. A set without labels gives a cluster without levels.
// Errors: InvalidArgument for paths that put levels in different orders, or that have more than kLabelDepthMax levels together.
absl::StatusOr<Cluster> ClusterOfLabels(const LabelSet& set);
// The reverse: what a cluster's labels say, for ChooseLabels. Notes are none.
LabelSet LabelsOfCluster(const Cluster& cluster, const std::string& source);

// "a, b, c and 7 more".
std::string ShortList(const std::vector<std::string>& names);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_LABELS_LABELS_H_
