// The way between two ranks, measured over a mesh.
#ifndef MUSTER_RUNTIME_MEASURE_LINK_PROBE_H_
#define MUSTER_RUNTIME_MEASURE_LINK_PROBE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "runtime/transport/mesh.h"

namespace muster {

struct LinkProbe {
  int64_t latency_ns = 0;       // half of the fastest of kPings round trips of 8 bytes
  double bytes_per_second = 0;  // each way, both ways at once
};

inline constexpr int kPings = 40;
// What one measurement of bandwidth moves each way: as much as takes about kProbeTime, between these.
inline constexpr int64_t kProbeBytesMin = 64 << 10;
inline constexpr int64_t kProbeBytesMax = 8 << 20;
inline constexpr int64_t kProbeNanoseconds = 20'000'000;

// Both ranks call it, each with the other as `peer`; `turn` counts the calls of this mesh and is the same on both. The lower rank begins.
// Errors: Unavailable, DeadlineExceeded (after 5 s), as the mesh says it; the mesh is broken then.
absl::StatusOr<LinkProbe> ProbeLink(Mesh& mesh, int rank, int peer, uint64_t turn);

}  // namespace muster

#endif  // MUSTER_RUNTIME_MEASURE_LINK_PROBE_H_
