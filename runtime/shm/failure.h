// Why a collective failed: whom it blames and what the caller reads.
#ifndef MUSTER_RUNTIME_SHM_FAILURE_H_
#define MUSTER_RUNTIME_SHM_FAILURE_H_

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "proto/muster/v1/control_memory.h"

namespace muster {

struct Failure {
  absl::Status status;
  v1::AbortReason reason = v1::AbortReason::kNone;
  uint32_t rank = v1::kNoRank;  // blamed
};

// Two calls with equal digests are the same call (where buffers lie does not matter).
uint64_t DigestOf(const v1::OpDescriptor& what);

// What ranks announced that do not agree, by rank. The majority is right; among equals the group with the lowest rank. The
// message names the lowest rank outside of it, the same on all ranks.
Failure MismatchFailure(std::span<const v1::OpDescriptor> announced);

// What an abort word says, for a rank that was (or would have been) in `what`. `text` is the blamed rank's abort text.
Failure AbortFailure(uint64_t word, uint64_t generation, const std::string& host, const std::string& text,
                     const v1::OpDescriptor& what);

// The awaited rank has left, or had not arrived when the deadline passed.
Failure PeerLeftFailure(int rank, const std::string& host, const v1::OpDescriptor& what);
Failure DeadlineFailure(int rank, const std::string& host, const v1::OpDescriptor& what);

}  // namespace muster

#endif  // MUSTER_RUNTIME_SHM_FAILURE_H_
