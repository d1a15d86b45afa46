// libmuster_mpi.so, opened when it is asked for.
#ifndef MUSTER_RUNTIME_BACKEND_MPI_MPI_LIBRARY_H_
#define MUSTER_RUNTIME_BACKEND_MPI_MPI_LIBRARY_H_

#include <string>

#include "absl/status/statusor.h"
#include "runtime/backend/mpi/mpi_api.h"

namespace muster {

// `path`: MUSTER_MPI_LIBRARY, the one file to open; empty: libmuster_mpi.so in the folder of the code that calls this, else where the
// loader looks. Stays open for the process's life.
// Errors: FailedPrecondition: there is none, it needs an MPI library that is not there, or it is of another muster; the message says
// what to install.
absl::StatusOr<MpiApi*> OpenMpiLibrary(const std::string& path);

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_MPI_MPI_LIBRARY_H_
