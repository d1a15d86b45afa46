// Making communicators of some of a communicator's ranks: who is in which, its memory on this node, its connections.
#ifndef MUSTER_RUNTIME_BACKEND_NATIVE_SPLIT_H_
#define MUSTER_RUNTIME_BACKEND_NATIVE_SPLIT_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/backend/native/place.h"
#include "runtime/backend/native/windows.h"

namespace muster {

// Communicators made by Split that one rank may have at a time.
inline constexpr int kNativeChildrenMax = v1::kSplitFlightEntries;

// The nodes of `job_ranks` as collectives see them: each run of neighbours on one node is a node of its own, unless all are on one.
// `node_of_rank` by rank of the job, empty: there is one node. Pure.
std::vector<int> RunsOfNodes(const std::vector<int>& node_of_rank, std::span<const int> job_ranks);

// Collective over `parent`, whose `splits`-th split this is; color >= kNoColor. Nothing for kNoColor. The links, memory and connections
// are made in steps that all ranks confirm, so that one rank's failure is an error everywhere and leaves the parent usable.
absl::StatusOr<std::optional<NativePlace>> SplitPlace(const NativePlace& parent, const WindowHome& home, uint64_t splits,
                                                      int color, int key, absl::Time deadline);

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NATIVE_SPLIT_H_
