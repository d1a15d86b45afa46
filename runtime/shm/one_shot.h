// One exchange, every rank's whole contribution visible to all: the shape of the flag line and slot algorithms.
#ifndef MUSTER_RUNTIME_SHM_ONE_SHOT_H_
#define MUSTER_RUNTIME_SHM_ONE_SHOT_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "runtime/shm/member.h"
#include "runtime/shm/operation.h"

namespace muster {

// `place(r)` is where rank r's contribution lies, with row i of it at i * row_stride. Fills this rank's own, exchanges, and
// computes the output from all.
absl::Status RunOneShot(Member& member, const Operation& operation, absl::FunctionRef<char*(int)> place, int64_t row_stride);

}  // namespace muster

#endif  // MUSTER_RUNTIME_SHM_ONE_SHOT_H_
