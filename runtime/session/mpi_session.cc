#include "runtime/session/mpi_session.h"

#include <unistd.h>

#include <random>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "runtime/backend/mpi/mpi.h"
#include "runtime/backend/mpi/mpi_library.h"
#include "runtime/base/status.h"
#include "runtime/session/process_seat.h"

namespace muster {
namespace {

class MpiSession : public Session {
 public:
  explicit MpiSession(const SessionOptions& options) : options_(options) {}

  ~MpiSession() override {
    if (::getpid() != owner_) {  // a forked child: the thread behind the world is not there
      static_cast<void>(world_.release());
      return;
    }
    if (has_seat_) ProcessSeat::GiveBack();
  }

  absl::Status Open() {
    MUSTER_RETURN_IF_ERROR(ProcessSeat::Take([this] { world_.reset(); }));  // mpirun wants MPI ended at a good end
    has_seat_ = true;
    MpiOptions mpi;
    mpi.generation = generation();
    MUSTER_ASSIGN_OR_RETURN(mpi.api, OpenMpiLibrary(options_.mpi_library));
    MUSTER_ASSIGN_OR_RETURN(world_, CreateMpiCommunicator(std::move(mpi)));
    MUSTER_RETURN_IF_ERROR(CheckWorldSize());
    // One name for the job, which rank 0 makes up.
    std::random_device random;
    uint32_t id[4] = {random(), random(), random(), random()};
    MUSTER_RETURN_IF_ERROR(world_->Broadcast({id, sizeof id, DataType::kUint8}, /*root=*/0));
    job_id_ = absl::StrFormat("%08x%08x%08x%08x", id[0], id[1], id[2], id[3]);
    return absl::OkStatus();
  }

  // Open MPI takes a process for a world of one where it finds no mpirun of its own.
  absl::Status CheckWorldSize() const {
    if (options_.world_size == 0 || options_.world_size == world_->world_size()) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrFormat(
        "OMPI_COMM_WORLD_SIZE=%d says that this process is one of %d, but Open MPI made a world of %d: start the program with "
        "`muster run -np %d` or Open MPI's mpirun, or unset OMPI_COMM_WORLD_SIZE to run it alone",
        options_.world_size, options_.world_size, world_->world_size(), options_.world_size));
  }

  int rank() const override { return world_->rank(); }
  int world_size() const override { return world_->world_size(); }
  int local_rank() const override { return options_.local_rank; }
  int local_world_size() const override { return options_.local_world_size; }
  uint64_t generation() const override { return 1; }
  int restarts() const override { return 0; }
  const std::string& job_id() const override { return job_id_; }
  Communicator& world() override { return *world_; }
  const CheckpointSettings& checkpoint() const override { return checkpoint_; }
  void ReportStep(int64_t, int64_t) override {}

 private:
  const pid_t owner_ = ::getpid();
  const SessionOptions options_;
  const CheckpointSettings checkpoint_;
  bool has_seat_ = false;
  std::string job_id_;
  std::unique_ptr<Communicator> world_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Session>> CreateMpiSession(const SessionOptions& options) {
  auto session = std::make_unique<MpiSession>(options);
  MUSTER_RETURN_IF_ERROR(session->Open());
  return session;
}

}  // namespace muster
