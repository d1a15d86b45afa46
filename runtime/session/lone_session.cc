#include "runtime/session/lone_session.h"

#include <unistd.h>

#include <atomic>
#include <string>
#include <utility>

#include "runtime/backend/native/local_control.h"
#include "runtime/backend/native/native.h"
#include "runtime/base/status.h"
#include "runtime/session/nccl_world.h"
#include "runtime/session/options.h"
#include "runtime/session/process_seat.h"

namespace muster {
namespace {

class LoneSession : public Session {
 public:
  LoneSession(std::unique_ptr<LocalControl> control, std::unique_ptr<Communicator> world)
      : control_(std::move(control)), world_(std::move(world)) {}

  ~LoneSession() override {
    if (::getpid() != owner_) {  // a forked child: threads and memory behind these are not there
      static_cast<void>(world_.release());
      static_cast<void>(control_.release());
      return;
    }
    ProcessSeat::GiveBack();
  }

  int rank() const override { return 0; }
  int world_size() const override { return 1; }
  int local_rank() const override { return 0; }
  int local_world_size() const override { return 1; }
  uint64_t generation() const override { return 1; }
  int restarts() const override { return 0; }
  const std::string& job_id() const override { return job_id_; }
  Communicator& world() override { return *world_; }
  const CheckpointSettings& checkpoint() const override { return checkpoint_; }
  void ReportStep(int64_t, int64_t) override {}

 private:
  const pid_t owner_ = ::getpid();
  const std::string job_id_;
  const CheckpointSettings checkpoint_;
  std::unique_ptr<LocalControl> control_;
  std::unique_ptr<Communicator> world_;
};

// Once a process, however many sessions it opens one after the other.
void SayAlone() {
  static std::atomic<bool> said = false;
  if (said.exchange(true)) return;
  static constexpr char kLine[] = "muster: no agent here: this program runs alone, rank 0 of 1 (muster run -np N starts N)\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kLine, sizeof kLine - 1);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Session>> CreateLoneSession(const SessionOptions& session) {
  MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<LocalControl> control, LocalControl::Create(/*generation=*/1, /*ranks=*/1));
  NativeOptions options;
  options.generation = 1;
  options.control = control->header();
  MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> world, CreateNativeCommunicator(std::move(options)));
  if (session.backend == kNcclBackend) {  // nobody else is there: auto has no use for it
    NcclWorldOptions nccl;
    nccl.nccl_library = session.nccl_library;
    nccl.cuda_library = session.cuda_library;
    nccl.nccl_host_id = session.nccl_host_id;
    MUSTER_ASSIGN_OR_RETURN(world, MakeNcclWorld(&world, std::move(nccl)));
  }
  MUSTER_RETURN_IF_ERROR(ProcessSeat::Take(nullptr));
  SayAlone();
  return std::make_unique<LoneSession>(std::move(control), std::move(world));
}

}  // namespace muster
