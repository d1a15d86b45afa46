// A training program's place in its job.
#ifndef MUSTER_SESSION_H_
#define MUSTER_SESSION_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "muster/communicator.h"

namespace muster {

// What Session::Create reads from the environment once; tests and embedders may fill it themselves.
struct SessionOptions {
  std::string socket;  // MUSTER_SOCKET: abstract name of the agent's socket; empty: no agent, a world of one
  std::string job_id;  // MUSTER_JOB_ID, 32 hexadecimal digits
  int32_t slot = 0;    // MUSTER_SLOT
  absl::Duration join_timeout = absl::Minutes(10);

  // MUSTER_BACKEND: "native", "nccl" or "mpi"; empty (also for "auto"): mpi in a world that mpirun made, nccl where every rank has a GPU
  // of its own and NCCL, else native.
  std::string backend;
  std::string mpi_library;       // MUSTER_MPI_LIBRARY: path of libmuster_mpi.so; empty: beside libmuster, or the loader's path
  std::string nccl_library;      // MUSTER_NCCL_LIBRARY: path of libnccl.so.2; empty: where it usually is
  std::string cuda_library;      // MUSTER_CUDA_LIBRARY: path of libcudart; the same
  std::string nccl_host_id;      // NCCL_HOSTID: what NCCL takes for the machine; empty: the machine itself
  int32_t world_size = 0;        // mpirun's, where there is no agent; 0: not said
  int32_t local_rank = 0;        // the same
  int32_t local_world_size = 1;  // the same
};

// Errors: InvalidArgument names the variable that cannot be read. FailedPrecondition when another launcher's variables say that
// the world is larger than one (WORLD_SIZE, PMI_SIZE; OMPI_COMM_WORLD_SIZE with MUSTER_BACKEND=native) but no muster agent is there.
absl::StatusOr<SessionOptions> SessionOptionsFromEnvironment();

// The job's `checkpoint:` settings (muster run --checkpoint-path, --checkpoint-every, --checkpoint-keep): defaults for a program
// that has not been told otherwise.
struct CheckpointSettings {
  std::string path;         // empty: none
  int64_t every_steps = 0;  // 0: none said
  int32_t keep = 0;         // 0: none said
};

// Joins the job's agent on creation and leaves on destruction (or at a normal exit). One per process and slot. Leaving is part of
// the contract: a process that ends without it is reported as lost.
//
// Without an agent the session is a world of one and says so once on stderr; with backend "mpi" it is MPI's world, as of mpirun.
// There (and with backend "mpi" under an agent) destroying the session waits until all ranks do; after an error it waits for nobody.
// Destroy windows and pending Work before the session.
// Threads: calls from one thread at a time. A child made by fork() must not use the session; destroying it there does nothing.
class Session {
 public:
  // Blocks until every rank of the generation has joined or been started.
  // Errors: Unavailable (no agent at the socket, refused, or the job ended meanwhile), DeadlineExceeded, AlreadyExists (a second
  // session in this process or slot), FailedPrecondition (backend "mpi", and libmuster_mpi.so or Open MPI is not installed; backend
  // "nccl", and a rank has no GPU of its own, or not the CUDA runtime or NCCL).
  static absl::StatusOr<std::unique_ptr<Session>> Create(const SessionOptions& options);
  static absl::StatusOr<std::unique_ptr<Session>> Create();  // from the environment

  virtual ~Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  virtual int rank() const = 0;
  virtual int world_size() const = 0;
  virtual int local_rank() const = 0;
  virtual int local_world_size() const = 0;
  virtual uint64_t generation() const = 0;
  virtual int restarts() const = 0;  // times the whole job was restarted
  virtual const std::string& job_id() const = 0;

  // All ranks of the current generation. Owned by the session.
  virtual Communicator& world() = 0;

  virtual const CheckpointSettings& checkpoint() const = 0;

  // Tells the agent how far training is, and the step of the newest checkpoint on disk (-1: none), for status, the verdict, and
  // counting restarts. Never blocks.
  virtual void ReportStep(int64_t committed_step, int64_t checkpoint_step = -1) = 0;

 protected:
  Session() = default;
};

}  // namespace muster

#endif  // MUSTER_SESSION_H_
