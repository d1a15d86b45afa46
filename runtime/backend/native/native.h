// The native backend: collectives on CPU memory, in shared memory inside a node.
#ifndef MUSTER_RUNTIME_BACKEND_NATIVE_NATIVE_H_
#define MUSTER_RUNTIME_BACKEND_NATIVE_NATIVE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "muster/communicator.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/backend/native/node_link.h"

namespace muster {

struct NativeOptions {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  uint64_t generation = 0;
  std::string host;                      // named in errors
  v1::ControlHeader* control = nullptr;  // mapped and checked by the caller; outlives the communicator
  NodeLink* link = nullptr;              // outlives the communicator; may be null in a world of one
};

// All ranks on one node for now: world_size must equal control->local_size, and rank be local_rank. A world of one may use the
// memory of LocalControl (local_control.h). The memory stays mapped until the communicator and all its windows are destroyed.
// Leaving is the caller's: v1::MarkLeft (control_wake.h) after the last collective.
// Errors: InvalidArgument, Unimplemented (more than one node).
absl::StatusOr<std::unique_ptr<Communicator>> CreateNativeCommunicator(const NativeOptions& options);

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_NATIVE_NATIVE_H_
