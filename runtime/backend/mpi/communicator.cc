#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/backend/mpi/mpi.h"
#include "runtime/backend/mpi/mpi_engine.h"
#include "runtime/backend/shared/progress.h"
#include "runtime/backend/shared/queued_communicator.h"
#include "runtime/backend/shared/split_members.h"
#include "runtime/base/clock.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr Capabilities kCapabilities = {.backend = "mpi",
                                        .windows_are_zero_copy = false,
                                        .bits_follow_canonical_tree = false,
                                        .membership_is_fixed = true,
                                        .aborts_between_polls = true};

// Memory of this rank alone; MPI copies.
class PrivateWindow : public Window {
 public:
  PrivateWindow(void* memory, int64_t bytes) : memory_(memory), bytes_(bytes) {}
  ~PrivateWindow() override { ::munmap(memory_, static_cast<size_t>(bytes_)); }
  void* data() override { return memory_; }
  int64_t bytes() const override { return bytes_; }

 private:
  void* const memory_;
  const int64_t bytes_;
};

std::unique_ptr<Window> MapWindow(int64_t bytes) {
  void* const memory = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  ::madvise(memory, static_cast<size_t>(bytes), MADV_DONTFORK);
  return std::make_unique<PrivateWindow>(memory, bytes);
}

// What the MPI communicators of a process share. Any thread.
class MpiFamily {
 public:
  // False: there have been as many as there may be.
  bool CountChild() { return children_.fetch_add(1) < kMpiChildrenMax; }

  // One of them has failed.
  void NoteFailure() { has_failed_ = true; }
  bool has_failed() const { return has_failed_; }

 private:
  std::atomic<int> children_{0};
  std::atomic<bool> has_failed_{false};
};

class MpiCommunicator : public QueuedCommunicator<MpiCommunicator> {
 public:
  // `family` null: of all ranks.
  MpiCommunicator(MpiOptions options, const MpiPlace& place, std::shared_ptr<MpiFamily> family)
      : QueuedCommunicator(place.rank, place.world_size),
        options_(options),
        place_(place),
        is_of_all_ranks_(family == nullptr),
        family_(family == nullptr ? std::make_shared<MpiFamily>() : std::move(family)),
        running_(std::make_unique<Running>(std::move(options), place, *family_)) {}

  // Makes the progress thread, so that Abort finds it.
  absl::Status MakeThread() { return running_->progress.Start(Nothing()).status(); }

  ~MpiCommunicator() override {
    if (gave_up_) {                            // the thread is still in there
      static std::atomic<Running*> abandoned;  // reachable: no leak to those who look for leaks
      abandoned = running_.release();
      return;
    }
    running_->progress.Finish();
    if (::getpid() != owner_) return;
    MpiEngine& engine = running_->engine;
    if (engine.failure().has_value()) family_->NoteFailure();
    // Requests of one that has failed are still with MPI, which so cannot be ended.
    if (!is_of_all_ranks_ || family_->has_failed()) {
      engine.LeaveAtOnce(/*unended=*/is_of_all_ranks_);
    } else {
      engine.Leave();  // in the thread that started MPI, if that is the one that made this
    }
  }

  int rank() const override { return place_.rank; }
  int world_size() const override { return place_.world_size; }
  uint64_t generation() const override { return options_.generation; }
  const Capabilities& capabilities() const override { return kCapabilities; }

  absl::StatusOr<std::unique_ptr<Window>> CreateWindow(int64_t bytes, absl::Time deadline) override {
    if (bytes <= 0) return absl::InvalidArgumentError(absl::StrCat("a window of ", bytes, " bytes: must be more than 0"));
    std::unique_ptr<Window> window = MapWindow(bytes);
    const int64_t have = window == nullptr ? 0 : 1;
    Operation agree = operations().Barrier(deadline);
    agree.what.kind = v1::OpKind::kCreateWindow;
    agree.what.count = bytes;
    agree.input = &have;
    MUSTER_RETURN_IF_ERROR(Now(agree));
    return window;
  }

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int key, absl::Time deadline) override {
    MUSTER_RETURN_IF_ERROR(CheckColor(color));
    MUSTER_RETURN_IF_ERROR(GivenUp());  // a thread that is lost has the call's memory
    MpiSplit& split = running_->split;
    split = {.call = {color, key}};
    split.is_full = color != kNoColor && !family_->CountChild();
    Operation operation = operations().Barrier(deadline);
    operation.what.kind = v1::OpKind::kSplit;
    operation.what.count = 1;
    operation.output = &split;
    MUSTER_RETURN_IF_ERROR(WaitForStarted(operation.deadline));
    MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<Work> work, running_->progress.Start(operation));
    MUSTER_RETURN_IF_ERROR(AwaitSplit(*work, operation.deadline));
    if (split.some == nullptr) return nullptr;
    MpiOptions options = options_;
    options.api = split.some;
    options.job_ranks = split.job_ranks;
    auto some = std::make_unique<MpiCommunicator>(std::move(options), split.place, family_);
    MUSTER_RETURN_IF_ERROR(some->MakeThread());
    return some;
  }

  void Abort(absl::Status reason) override {
    MpiEngine& engine = running_->engine;
    const auto own = static_cast<uint32_t>(engine.JobRank(place_.rank));
    engine.Break(AbortFailure(v1::PackAbort(v1::AbortReason::kAborted, own, 0), options_.generation, "",
                              std::string(reason.message()), Nothing().what));
    // The thread tells the peers; it is there, so any thread may give it something. A full queue is at work and tells as well.
    running_->progress.Start(Nothing()).IgnoreError();
  }

 private:
  friend class QueuedCommunicator<MpiCommunicator>;

  static Operation Nothing() {
    Operation nothing;
    nothing.what.kind = v1::OpKind::kNone;
    return nothing;
  }

  // Has to outlive a thread that cannot be called back.
  struct Running {
    Running(MpiOptions options, const MpiPlace& place, MpiFamily& family)
        : engine(std::move(options), place), progress([this, &family](const Operation& operation, const std::atomic<int>*) {
            absl::Status status = engine.Run(operation);
            if (!status.ok() && engine.failure().has_value()) family.NoteFailure();
            return status;
          }) {}
    MpiSplit split;
    MpiEngine engine;
    Progress progress;  // last: its destructor lets started operations finish, which use all of the above
  };

  absl::Status WaitForStarted(int64_t deadline) {
    Progress& progress = running_->progress;
    if (progress.IsIdle() || progress.WaitUntilIdle(deadline)) return absl::OkStatus();
    // Running out of order is not possible, and the others wait for this rank: over for all.
    const std::string text = "operations started before this call had not finished when its deadline passed";
    running_->engine.Break({absl::DeadlineExceededError(text), v1::AbortReason::kDeadline, v1::kNoRank, 0, text});
    return running_->engine.failure()->status;
  }

  absl::Status Now(const absl::StatusOr<Operation>& operation) {
    if (!operation.ok()) return operation.status();
    MUSTER_RETURN_IF_ERROR(GivenUp());
    MUSTER_RETURN_IF_ERROR(WaitForStarted(operation->deadline));
    MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<Work> work, running_->progress.Start(*operation));
    return work->Wait();
  }

  absl::StatusOr<std::unique_ptr<Work>> Later(const absl::StatusOr<Operation>& operation) {
    if (!operation.ok()) return operation.status();
    MUSTER_RETURN_IF_ERROR(GivenUp());
    return running_->progress.Start(*operation);
  }

  absl::Status GivenUp() const { return gave_up_ ? running_->engine.failure()->status : absl::OkStatus(); }

  absl::Status AwaitSplit(Work& work, int64_t deadline) {
    const int64_t begin = MonotonicNanoseconds();
    while (!work.IsDone()) {
      if (running_->engine.GivesUpSplit(deadline)) {
        gave_up_ = true;
        running_->progress.Abandon();
        family_->NoteFailure();
        return GivenUp();
      }
      running_->engine.Pause(MonotonicNanoseconds() - begin);
    }
    return work.Wait();
  }

  const pid_t owner_ = ::getpid();
  const MpiOptions options_;
  const MpiPlace place_;
  const bool is_of_all_ranks_;
  const std::shared_ptr<MpiFamily> family_;
  bool gave_up_ = false;
  std::unique_ptr<Running> running_;
};

absl::Status StartFailed(MpiApi& api, int code) {
  if (code == kMpiIsOver) {
    return absl::FailedPreconditionError(
        "MPI was ended in this process and can be started only once; open one session a process");
  }
  if (code == kMpiThreadsFewer) {
    return absl::FailedPreconditionError(
        "the program has started MPI for one thread; call MPI_Init_thread with MPI_THREAD_MULTIPLE, or open muster's session "
        "and leave starting MPI to it");
  }
  char words[200] = "";
  api.ErrorText(code, words, sizeof words);
  return absl::InternalError(absl::StrCat(api.Library(), " does not start: ", words));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> CreateMpiCommunicator(MpiOptions options) {
  MpiPlace place;
  const int code = options.api->Start(&place);
  if (code != kMpiOk) return StartFailed(*options.api, code);
  auto communicator = std::make_unique<MpiCommunicator>(std::move(options), place, nullptr);
  MUSTER_RETURN_IF_ERROR(communicator->MakeThread());
  return communicator;
}

}  // namespace muster
