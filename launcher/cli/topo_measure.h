// muster topo show --measure: a job of one rank a node that measures the ways between them.
#ifndef MUSTER_LAUNCHER_CLI_TOPO_MEASURE_H_
#define MUSTER_LAUNCHER_CLI_TOPO_MEASURE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "launcher/labels/labels.h"
#include "launcher/topology/cluster.h"
#include "launcher/topology/link_rounds.h"

namespace muster {

struct MeasureOptions {
  std::vector<std::string> run_words;  // of `muster run`: -H, --hostfile, --nodes, --starter as typed
  std::vector<std::string> names;      // of the nodes, in the order of ranks; empty: as they call themselves
  int nodes = 0;                       // how many
  int all_pairs_max = kAllPairsMax;    // of more nodes only a sample of pairs is measured
};

struct MeasuredLinks {
  std::vector<std::string> names;                  // by rank
  std::vector<Cluster::Measurement> measurements;  // each pair in both directions
};

// Runs the job: all pairs in a tournament of up to all_pairs_max nodes; of more a sample, and then one node of each group that shows.
// Bounded: a pair takes some 30 ms and moves at most 8 MiB each way; a job that hangs is ended after a time that the number of rounds
// gives. Errors: InvalidArgument (fewer than two nodes), Unavailable (the job failed; it has said why).
absl::StatusOr<MeasuredLinks> MeasureLinks(const MeasureOptions& options);

// What the job reads and writes (runtime/measure/worker.cc). Pure.
std::string RoundsText(const std::vector<LinkRound>& rounds);
// Errors: DataLoss for a line that nobody can read, a rank out of range, or no end.
absl::StatusOr<MeasuredLinks> ParseMeasured(absl::string_view text, int nodes);

// "66 pairs measured: latency 21 us to 34 us, bandwidth 8.2 Gbit/s to 9.4 Gbit/s; slowest node-b and node-k".
std::string MeasuredText(const MeasuredLinks& links);

// The groups that the measurements show, as labels of a source "measured".
LabelSet LabelsOfMeasured(const MeasuredLinks& links);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_TOPO_MEASURE_H_
