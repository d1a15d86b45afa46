// Why a collective failed: whom it blames and what the caller reads.
#ifndef MUSTER_RUNTIME_SHM_FAILURE_H_
#define MUSTER_RUNTIME_SHM_FAILURE_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "proto/muster/v1/control_memory.h"

namespace muster {

struct Failure {
  absl::Status status;
  v1::AbortReason reason = v1::AbortReason::kNone;
  uint32_t rank = v1::kNoRank;  // blamed
  uint32_t detail = 0;          // of kPeerLost: the signal or exit status, where known
  std::string text;             // of kAborted and kMismatch: what the others should read
};

// Two calls with equal digests are the same call (where buffers lie does not matter).
uint64_t DigestOf(const v1::OpDescriptor& what);

// One of the calls that ranks made where all should have made the same.
struct Call {
  v1::OpDescriptor what = {};
  int32_t votes = 0;        // ranks that made it
  int32_t lowest_rank = 0;  // the lowest of them
};

// The different calls among `announced`, which are those of `ranks`; by lowest rank.
std::vector<Call> DifferentCalls(std::span<const v1::OpDescriptor> announced, std::span<const int> ranks);

// Adds the calls of other ranks to `calls`.
void AddCalls(std::span<const Call> others, std::vector<Call>& calls);

// What ranks announced that do not agree. The majority is right; among equals the group with the lowest rank. The message names
// the lowest rank outside of it, the same on all ranks.
Failure MismatchFailure(std::span<const Call> calls);

// What an abort word says, for a rank that was (or would have been) in `what`. `host` is the blamed rank's, or empty; `text` what
// who raised it wrote.
Failure AbortFailure(uint64_t word, uint64_t generation, const std::string& host, const std::string& text,
                     const v1::OpDescriptor& what);

// The awaited rank has left, or had not arrived when the deadline passed.
Failure PeerLeftFailure(int rank, const std::string& host, const v1::OpDescriptor& what);
Failure DeadlineFailure(int rank, const std::string& host, const v1::OpDescriptor& what);

}  // namespace muster

#endif  // MUSTER_RUNTIME_SHM_FAILURE_H_
