// The MPI backend: collectives by an MPI library's own, for its networks and for programs that mpirun starts.
#ifndef MUSTER_RUNTIME_BACKEND_MPI_MPI_H_
#define MUSTER_RUNTIME_BACKEND_MPI_MPI_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "muster/communicator.h"
#include "runtime/backend/mpi/mpi_api.h"
#include "runtime/shm/failure.h"

namespace muster {

inline constexpr int kMpiChildrenMax = 256;

struct MpiOptions {
  MpiApi* api = nullptr;  // outlives the communicator
  uint64_t generation = 0;
  std::vector<int> job_ranks;  // what errors call the ranks, by rank; empty: the same

  // Why this generation is over, as whoever watches the processes says; OK while it is not. Asked at every look at a running
  // operation, by any thread; may be null.
  std::function<absl::Status()> interrupted;
  // Told of the first failure, which this rank saw itself or another told it of, but not of what `interrupted` said; any thread; may be
  // null.
  std::function<void(const Failure& failure)> failed;

  int64_t piece_bytes = int64_t{1} << 30;    // one call of MPI moves no more than this; at most 2^30
  int64_t scratch_bytes = int64_t{4} << 20;  // for 16-bit floats, which travel as float32, and for strided parts; 4 KiB or more

  std::function<int64_t()> now;               // monotonic nanoseconds; null: the clock
  std::function<void(int64_t waited)> pause;  // between two looks, after `waited` nanoseconds; null: yields, later naps
};

// All calls of MPI but its start and end are made by the communicator's progress thread, one at a time; an operation is a
// non-blocking collective that the thread looks at until it is done. Before it the ranks compare what they were asked for.
//
// Sums do not follow the canonical tree: the library chooses the order. 16-bit floats travel and are added as float32.
//
// MPI cannot go on without a rank, nor call off a collective. After the first error the process must end: MPI is not ended
// with MPI_Finalize then, and the buffers of the failed operation must outlive the process's last look at MPI (there is none
// of ours). Destroying a sound communicator waits until all ranks do, and ends MPI.
//
// Communicators made by Split have channels of their own and a progress thread each. MPI has no split that can be looked at: the
// thread makes a blocking one once all ranks have said that they are there. A rank that dies within it may leave the others there for
// ever, so they give it up at their deadline or a second after the launcher's word. Destroying such a communicator tells its other
// ranks and waits for nobody; MPI keeps what it has of it until the end, so there are kMpiChildrenMax of them in a process's life.
// An error in any communicator means that MPI is not ended.
//
// Collective: starts MPI in the calling thread.
// Errors: FailedPrecondition (MPI was ended in this process, or the program started it for too few threads), Internal.
absl::StatusOr<std::unique_ptr<Communicator>> CreateMpiCommunicator(MpiOptions options);

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_MPI_MPI_H_
