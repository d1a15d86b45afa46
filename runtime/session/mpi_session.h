// A program that mpirun started: its world is MPI's, and there is no agent.
#ifndef MUSTER_RUNTIME_SESSION_MPI_SESSION_H_
#define MUSTER_RUNTIME_SESSION_MPI_SESSION_H_

#include <memory>

#include "absl/status/statusor.h"
#include "muster/session.h"

namespace muster {

// Errors: those of OpenMpiLibrary and CreateMpiCommunicator, AlreadyExists.
absl::StatusOr<std::unique_ptr<Session>> CreateMpiSession(const SessionOptions& options);

}  // namespace muster

#endif  // MUSTER_RUNTIME_SESSION_MPI_SESSION_H_
