// Every rank's whole contribution visible to all after one exchange: what the flag line and slot algorithms share.
#ifndef MUSTER_RUNTIME_SHM_ONE_SHOT_H_
#define MUSTER_RUNTIME_SHM_ONE_SHOT_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "runtime/shm/member.h"
#include "runtime/shm/operation.h"

namespace muster {

// Copies what this rank contributes, if anybody reads it, to `own`: row i at i * row_bytes.
void Contribute(const Member& member, const Operation& operation, char* own);

// Computes the output; `place(r)` is where rank r's contribution lies.
void ComputeFromAll(const Member& member, const Operation& operation, absl::FunctionRef<char*(int)> place);

}  // namespace muster

#endif  // MUSTER_RUNTIME_SHM_ONE_SHOT_H_
