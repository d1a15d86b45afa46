#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/backend/mpi/mpi.h"
#include "runtime/backend/mpi/mpi_engine.h"
#include "runtime/backend/shared/operations.h"
#include "runtime/backend/shared/progress.h"
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

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(MpiOptions options, const MpiPlace& place)
      : place_(place),
        generation_(options.generation),
        operations_(place.rank, place.world_size),
        engine_(std::move(options), place),
        progress_([this](const Operation& operation, const std::atomic<int>*) { return engine_.Run(operation); }) {}

  // Makes the progress thread, so that Abort finds it.
  absl::Status MakeThread() { return progress_.Start(Nothing()).status(); }

  ~MpiCommunicator() override {
    progress_.Finish();
    if (::getpid() == owner_) engine_.Leave();  // in the thread that started MPI, if that is the one that made this
  }

  int rank() const override { return place_.rank; }
  int world_size() const override { return place_.world_size; }
  uint64_t generation() const override { return generation_; }
  const Capabilities& capabilities() const override { return kCapabilities; }

  absl::Status AllReduce(Tensor buffer, ReduceOp op, absl::Time deadline) override {
    return Now(operations_.AllReduce(buffer, op, deadline));
  }
  absl::Status AllReduceShards(ShardedTensor partials, ReduceOp op, absl::Time deadline) override {
    return Now(operations_.AllReduceShards(partials, op, deadline));
  }
  absl::Status Broadcast(Tensor buffer, int root, absl::Time deadline) override {
    return Now(operations_.Broadcast(buffer, root, deadline));
  }
  absl::Status AllGather(ConstTensor send, Tensor receive, absl::Time deadline) override {
    return Now(operations_.AllGather(send, receive, deadline));
  }
  absl::Status ReduceScatter(Tensor send, Tensor receive, ReduceOp op, absl::Time deadline) override {
    return Now(operations_.ReduceScatter(send, receive, op, deadline));
  }
  absl::Status Barrier(absl::Time deadline) override { return Now(operations_.Barrier(deadline)); }

  absl::StatusOr<std::unique_ptr<Work>> StartAllReduce(Tensor buffer, ReduceOp op, absl::Time deadline) override {
    return Later(operations_.AllReduce(buffer, op, deadline));
  }
  absl::StatusOr<std::unique_ptr<Work>> StartAllReduceShards(ShardedTensor partials, ReduceOp op,
                                                             absl::Time deadline) override {
    return Later(operations_.AllReduceShards(partials, op, deadline));
  }
  absl::StatusOr<std::unique_ptr<Work>> StartBroadcast(Tensor buffer, int root, absl::Time deadline) override {
    return Later(operations_.Broadcast(buffer, root, deadline));
  }
  absl::StatusOr<std::unique_ptr<Work>> StartAllGather(ConstTensor send, Tensor receive, absl::Time deadline) override {
    return Later(operations_.AllGather(send, receive, deadline));
  }
  absl::StatusOr<std::unique_ptr<Work>> StartReduceScatter(Tensor send, Tensor receive, ReduceOp op,
                                                           absl::Time deadline) override {
    return Later(operations_.ReduceScatter(send, receive, op, deadline));
  }
  absl::StatusOr<std::unique_ptr<Work>> StartBarrier(absl::Time deadline) override {
    return Later(operations_.Barrier(deadline));
  }

  absl::StatusOr<std::unique_ptr<Window>> CreateWindow(int64_t bytes, absl::Time deadline) override {
    if (bytes <= 0) return absl::InvalidArgumentError(absl::StrCat("a window of ", bytes, " bytes: must be more than 0"));
    std::unique_ptr<Window> window = MapWindow(bytes);
    const int64_t have = window == nullptr ? 0 : 1;
    Operation agree = operations_.Barrier(deadline);
    agree.what.kind = v1::OpKind::kCreateWindow;
    agree.what.count = bytes;
    agree.input = &have;
    MUSTER_RETURN_IF_ERROR(Now(agree));
    return window;
  }

  void Abort(absl::Status reason) override {
    engine_.Break(AbortFailure(v1::PackAbort(v1::AbortReason::kAborted, static_cast<uint32_t>(place_.rank), 0), generation_, "",
                               std::string(reason.message()), Nothing().what));
    // The thread tells the peers; it is there, so any thread may give it something. A full queue is at work and tells as well.
    progress_.Start(Nothing()).IgnoreError();
  }

 private:
  static Operation Nothing() {
    Operation nothing;
    nothing.what.kind = v1::OpKind::kNone;
    return nothing;
  }

  absl::Status Now(const absl::StatusOr<Operation>& operation) {
    if (!operation.ok()) return operation.status();
    if (!progress_.IsIdle() && !progress_.WaitUntilIdle(operation->deadline)) {
      // Running out of order is not possible, and the others wait for this rank: over for all.
      const std::string text = "operations started before this call had not finished when its deadline passed";
      engine_.Break({absl::DeadlineExceededError(text), v1::AbortReason::kDeadline, v1::kNoRank, 0, text});
      return engine_.failure()->status;
    }
    MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<Work> work, progress_.Start(*operation));
    return work->Wait();
  }

  absl::StatusOr<std::unique_ptr<Work>> Later(const absl::StatusOr<Operation>& operation) {
    if (!operation.ok()) return operation.status();
    return progress_.Start(*operation);
  }

  const pid_t owner_ = ::getpid();
  const MpiPlace place_;
  const uint64_t generation_;
  Operations operations_;
  MpiEngine engine_;
  Progress progress_;  // last: its destructor lets started operations finish, which use all of the above
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
  auto communicator = std::make_unique<MpiCommunicator>(std::move(options), place);
  MUSTER_RETURN_IF_ERROR(communicator->MakeThread());
  return communicator;
}

}  // namespace muster
