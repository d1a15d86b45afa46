// The collectives on mapped memory. Each function carries out one operation that Member::Begin has announced, for this rank.
//
// Sums run along the plan's tree whatever the algorithm, so all give the same bits. Who picks one:
// runtime/collectives/registry.h.
#ifndef MUSTER_RUNTIME_SHM_ALGORITHMS_H_
#define MUSTER_RUNTIME_SHM_ALGORITHMS_H_

#include "absl/status/status.h"
#include "runtime/shm/member.h"
#include "runtime/shm/operation.h"

namespace muster {

// A world of one: no exchange at all.
absl::Status RunAlone(Member& member, const Operation& operation);

// Up to 48 bytes from each rank, inside the flag lines: one exchange, each rank reads p cache lines.
absl::Status RunInFlagLine(Member& member, const Operation& operation);

// Up to a slot from each rank: private inputs are put in this rank's slot before the exchange; after it each rank reads what it
// needs from p slots. Where some inputs lie in a window, these ranks copy theirs late, and a step follows.
// Cost: (p + 3) times the vector a rank for an all-reduce.
void PutInSlot(Member& member, const Operation& operation);
absl::Status RunInSlots(Member& member, const Operation& operation);

// Inputs in one window on every rank, after the exchange: each input byte is read once, each output byte written once.
// Reductions are cut in chunks; where ranks share cores any running rank takes over chunks that nobody has claimed.
absl::Status RunInWindows(Member& member, const Operation& operation);

// Anything else, after the exchange: cut to staging buffers that stay in the cache, pipelined: chunk k + 1 is copied in while
// chunk k is reduced and chunk k - 1 copied out; one step between them.
// Cost: (5 - 2/p) times the vector a rank for an all-reduce.
absl::Status RunStaged(Member& member, const Operation& operation);

}  // namespace muster

#endif  // MUSTER_RUNTIME_SHM_ALGORITHMS_H_
