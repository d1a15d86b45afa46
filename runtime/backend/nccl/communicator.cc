#include <sys/types.h>
#include <unistd.h>

#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "muster/device.h"
#include "runtime/backend/nccl/nccl.h"
#include "runtime/backend/nccl/nccl_engine.h"
#include "runtime/backend/nccl/nccl_seats.h"
#include "runtime/backend/nccl/nccl_window.h"
#include "runtime/backend/shared/pause.h"
#include "runtime/backend/shared/progress.h"
#include "runtime/backend/shared/queued_communicator.h"
#include "runtime/backend/shared/split_members.h"
#include "runtime/base/clock.h"
#include "runtime/base/mutex.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

NcclOptions WithClock(NcclOptions options) {
  if (!options.now) options.now = MonotonicNanoseconds;
  if (!options.pause) options.pause = YieldThenNap;
  return options;
}

class NcclCommunicator : public QueuedCommunicator<NcclCommunicator>, public DeviceCollectives {
 public:
  explicit NcclCommunicator(NcclOptions options)
      : QueuedCommunicator(options.control->rank(), options.control->world_size()),
        options_(WithClock(std::move(options))),
        nccl_(*options_.nccl),
        cuda_(*options_.cuda),
        control_(std::move(options_.control)),
        handle_(std::make_shared<NcclHandle>(options_.nccl, options_.cuda, options_.device,
                                             NcclClock{options_.now, options_.pause})),
        watch_(options_, {options_.now, options_.pause}, *handle_, *control_),
        engine_(options_, *handle_, watch_, *control_),
        progress_([this](const Operation&, const std::atomic<int>*) { return RunNext(); }) {
    sound_ = {.backend = "nccl",
              .windows_are_zero_copy = true,
              .bits_follow_canonical_tree = true,
              .membership_is_fixed = false,
              .aborts_between_polls = false,
              .rounds_16_bit_at_each_hop = true,
              .device = this};
    stuck_ = sound_;
    stuck_.membership_is_fixed = stuck_.aborts_between_polls = true;
  }

  ~NcclCommunicator() override {
    progress_.Finish();
    watch_.Finish();
    if (watch_.must_end()->load() || handle_->is_gone()) return;
    // A failure that nobody has seen ends like one that somebody has.
    const bool ended = watch_.is_broken() ? handle_->Abort(options_.end_patience) : handle_->Leave(options_.end_patience);
    if (!ended) watch_.must_end()->store(true);
  }

  // Collective. `make` begins NCCL's communicator.
  absl::Status Start(absl::FunctionRef<absl::Status(NcclHandle&)> make) {
    MUSTER_RETURN_IF_ERROR(watch_.Start());
    absl::Status started = engine_.Start(make);
    if (started.ok()) return started;
    watch_.Break(started, /*tell=*/true);  // unless it is known
    return watch_.Settled();
  }

  // Begins NCCL's communicator: what is left of the one before, or a new one.
  absl::Status Begin(NcclHandle& handle) {
    auto* const before = dynamic_cast<NcclCommunicator*>(options_.before);
    int64_t kept = before != nullptr && nccl_.powers().shrinks && before->handle_->is_revoked() ? 1 : 0;
    MUSTER_RETURN_IF_ERROR(control_->AllReduce(MakeTensor(&kept, 1), ReduceOp::kMin, absl::Now() + options_.start_patience));
    const int code = handle.Make([&](NcclComm* comm) {
      if (kept == 0) return nccl_.Init(comm, control_->world_size(), control_->rank(), options_.ids);
      return before->handle_->Call([&](NcclComm old) { return nccl_.Shrink(old, options_.lost, comm); });
    });
    if (code == kNcclOk || code == kNcclInProgress) return absl::OkStatus();
    Operation starting;
    starting.what.kind = v1::OpKind::kNone;
    return watch_.NcclFailed(code, starting);
  }

  int rank() const override { return control_->rank(); }
  int world_size() const override { return control_->world_size(); }
  uint64_t generation() const override { return control_->generation(); }
  const Capabilities& capabilities() const override { return watch_.must_end()->load() ? stuck_ : sound_; }

  absl::StatusOr<std::unique_ptr<Window>> CreateWindow(int64_t bytes, absl::Time deadline) override {
    MUSTER_RETURN_IF_ERROR(CheckWindow(bytes));
    MUSTER_RETURN_IF_ERROR(Now(CreatingWindow(bytes, deadline)));  // all ranks have called it
    // The issuing thread waits for the next call, so this one may use what is its own.
    absl::StatusOr<std::unique_ptr<Window>> native = control_->CreateWindow(bytes, deadline);
    if (!native.ok()) return watch_.is_broken() ? watch_.Settled() : native.status();
    return std::make_unique<NcclHostWindow>(WindowsHome(), *std::move(native));
  }

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int key, absl::Time deadline) override {
    MUSTER_RETURN_IF_ERROR(CheckColor(color));
    Operation splitting = operations().Barrier(deadline);
    splitting.what.kind = v1::OpKind::kSplit;
    MUSTER_RETURN_IF_ERROR(Now(splitting));  // all ranks have called it
    // The issuing thread waits for the next call, so this one may use what is its own.
    MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> control, control_->Split(color, key, deadline));
    if (!nccl_.powers().splits) {
      if (control == nullptr) return nullptr;
      return StartAnew(std::move(control));
    }
    std::unique_ptr<NcclCommunicator> made;
    absl::Status status;
    if (control == nullptr) {
      NcclComm none = nullptr;
      const int code = handle_->Call([&](NcclComm comm) { return nccl_.Split(comm, kNoColor, key, &none); });
      status = engine_.Await(code, splitting);
    } else {
      MUSTER_ASSIGN_OR_RETURN(NcclOptions options, OptionsOf(std::move(control)));
      made = std::make_unique<NcclCommunicator>(std::move(options));
      status = made->Start([&](NcclHandle& handle) {
        const int code = handle.Make([&](NcclComm* comm) {
          return handle_->Call([&](NcclComm parent) { return nccl_.Split(parent, color, key, comm); });
        });
        return engine_.Await(code, splitting);
      });
    }
    if (!status.ok()) return watch_.is_broken() ? watch_.Settled() : status;
    return made;
  }

  void Abort(absl::Status reason) override {
    const absl::Status told(absl::StatusCode::kAborted, reason.message());
    watch_.Break(absl::AbortedError(absl::StrCat("rank ", JobRank(options_, rank()), " aborted: ", reason.message())),
                 /*tell=*/false);
    control_->Abort(told);
  }

  // --- DeviceCollectives ---

  int device() const override { return options_.device; }
  void SetStream(DeviceStream stream) override { callers_stream_ = stream; }

  absl::Status Follow(Work& work, DeviceStream stream) override {
    auto* const own = dynamic_cast<NcclWork*>(&work);
    if (own == nullptr) return absl::InvalidArgumentError("Follow: the work is not one that this communicator has started");
    return own->flight().WithEnd([this, stream](CudaEvent end) {
      const int code = cuda_.StreamWait(stream, end);
      return code == kCudaOk ? absl::OkStatus() : CallFailed("Follow", code);
    });
  }

  absl::StatusOr<std::unique_ptr<Window>> CreateDeviceWindow(int64_t bytes, absl::Time deadline) override {
    MUSTER_RETURN_IF_ERROR(CheckWindow(bytes));
    std::unique_ptr<NcclDeviceWindow> window = NcclDeviceWindow::Allocate(WindowsHome(), bytes);
    const WindowRequest request = {window == nullptr ? 0 : 1};
    Operation agree = CreatingWindow(bytes, deadline);
    agree.what.root = 1;  // another call than CreateWindow
    agree.input = &request;
    MUSTER_RETURN_IF_ERROR(Now(agree));
    // Nothing runs, and the issuing thread waits for the next call.
    if (absl::Status made = engine_.Await(window->Register(), agree); !made.ok()) return watch_.Settled();
    return window;
  }

 private:
  friend class QueuedCommunicator<NcclCommunicator>;

  // An error of a call that concerns this rank's own arguments; nothing was sent.
  absl::Status CallFailed(const char* what, int code) const {
    char words[200] = "";
    cuda_.ErrorText(code, words, sizeof words);
    return absl::InvalidArgumentError(
        absl::StrCat(what, " on rank ", JobRank(options_, rank()), " (GPU ", options_.device, "): CUDA: ", words));
  }

  // Sets whether `data` is in device memory, which must be this rank's device's.
  absl::Status Locate(const void* data, const Operation& operation, bool* on_device) {
    MemoryKind kind = MemoryKind::kHost;
    int device = 0;
    const int code = cuda_.KindOf(data, &kind, &device);
    if (code != kCudaOk) {
      watch_.CudaFailed(code, operation).IgnoreError();
      return watch_.Settled();
    }
    *on_device = kind == MemoryKind::kDevice;
    if (!*on_device || device == options_.device) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("a buffer lies on GPU ", device, ", rank ", rank(),
                                                   "'s communicator is on GPU ", options_.device,
                                                   ": use memory of capabilities().device->device()"));
  }

  absl::StatusOr<std::shared_ptr<NcclFlight>> MakeFlight(const Operation& operation) {
    auto flight = std::make_shared<NcclFlight>(operation);
    const bool has_data = operation.what.count > 0 && operation.what.kind != v1::OpKind::kCreateWindow;
    if (!has_data) return flight;
    bool input = false, output = false;
    MUSTER_RETURN_IF_ERROR(Locate(operation.input, operation, &input));
    MUSTER_RETURN_IF_ERROR(Locate(operation.output, operation, &output));
    flight->on_device = input || output;
    flight->by_host = !input || !output || NeedsHost(operation, options_.kernels != nullptr);
    if (callers_stream_ == nullptr || !flight->on_device) return flight;
    MUSTER_RETURN_IF_ERROR(watch_.TakeEvent(&flight->ready, operation));
    const int code = cuda_.Record(flight->ready, callers_stream_);
    if (code == kCudaOk) return flight;
    watch_.GiveEvent(flight->ready);
    if (!watch_.LookForFault(operation).ok()) return watch_.Settled();
    return CallFailed("SetStream's stream", code);
  }

  // Of a communicator that Split makes; its ranks are those of `control`.
  absl::StatusOr<NcclOptions> OptionsOf(std::unique_ptr<Communicator> control) const {
    NcclOptions made;
    made.nccl = options_.nccl;
    made.cuda = options_.cuda;
    made.kernels = options_.kernels;
    made.device = options_.device;
    made.interrupted = options_.interrupted;
    made.failed = options_.failed;
    made.warn = options_.warn;
    made.scratch_bytes = options_.scratch_bytes;
    made.start_patience = options_.start_patience;
    made.warn_after = options_.warn_after;
    made.hang_limit = options_.hang_limit;
    made.naming_patience = options_.naming_patience;
    made.end_patience = options_.end_patience;
    made.now = options_.now;
    made.pause = options_.pause;
    made.job_ranks.resize(static_cast<size_t>(control->world_size()));
    const int32_t own = JobRank(options_, rank());
    MUSTER_RETURN_IF_ERROR(control->AllGather({&own, 1, DataType::kInt32},
                                              MakeTensor(made.job_ranks.data(), control->world_size()),
                                              absl::Now() + options_.start_patience));
    made.control = std::move(control);
    return made;
  }

  // NCCL without ncclCommSplit: its members meet anew.
  absl::StatusOr<std::unique_ptr<Communicator>> StartAnew(std::unique_ptr<Communicator> control) {
    MUSTER_ASSIGN_OR_RETURN(NcclOptions options, OptionsOf(std::move(control)));
    MUSTER_ASSIGN_OR_RETURN(options.ids, ExchangeNcclIds(nccl_, *options.control, absl::Now() + options.start_patience));
    return CreateNcclCommunicator(std::move(options));
  }

  absl::Status AwaitStarted(int64_t deadline) {
    return progress_.WaitUntilIdle(deadline) ? watch_.AwaitIdle(deadline) : watch_.FailLate();
  }

  absl::Status Now(const absl::StatusOr<Operation>& operation) {
    if (!operation.ok()) return operation.status();
    MUSTER_RETURN_IF_ERROR(AwaitStarted(operation->deadline));
    MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<Work> work, Later(operation));
    return work->Wait();
  }

  absl::StatusOr<std::unique_ptr<Work>> Later(const absl::StatusOr<Operation>& operation) {
    if (!operation.ok()) return operation.status();
    MUSTER_ASSIGN_OR_RETURN(std::shared_ptr<NcclFlight> flight, MakeFlight(*operation));
    {
      MutexLock lock(mutex_);
      called_.push_back(flight);
    }
    const absl::Status queued = progress_.Start(*operation).status();
    if (queued.ok()) return std::make_unique<NcclWork>(std::move(flight));
    MutexLock lock(mutex_);
    called_.pop_back();  // the queue is full, so the issuing thread has not come near it
    return queued;
  }

  // On the issuing thread; once for each operation that was called, in their order.
  absl::Status RunNext() {
    std::shared_ptr<NcclFlight> flight;
    {
      MutexLock lock(mutex_);
      flight = std::move(called_.front());
      called_.pop_front();
    }
    engine_.Run(flight);
    return absl::OkStatus();
  }

  static absl::Status CheckWindow(int64_t bytes) {
    if (bytes > 0) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("a window of ", bytes, " bytes: must be more than 0"));
  }

  Operation CreatingWindow(int64_t bytes, absl::Time deadline) {
    Operation creating = operations().Barrier(deadline);
    creating.what.kind = v1::OpKind::kCreateWindow;
    creating.what.count = bytes;
    return creating;
  }

  NcclWindowHome WindowsHome() const { return {options_.nccl, options_.cuda, handle_, watch_.must_end(), options_.device}; }

  NcclOptions options_;
  NcclApi& nccl_;
  CudaApi& cuda_;
  Capabilities sound_, stuck_;
  const std::unique_ptr<Communicator> control_;
  const std::shared_ptr<NcclHandle> handle_;  // shared with windows, which may outlive the communicator
  NcclWatch watch_;
  NcclEngine engine_;
  DeviceStream callers_stream_ = nullptr;
  Mutex mutex_;
  std::deque<std::shared_ptr<NcclFlight>> called_ ABSL_GUARDED_BY(mutex_);  // as many as are in the queue
  Progress progress_;  // last: its destructor lets started operations finish, which use all of the above
};

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> CreateNcclCommunicator(NcclOptions options) {
  auto communicator = std::make_unique<NcclCommunicator>(std::move(options));
  NcclCommunicator* const made = communicator.get();
  MUSTER_RETURN_IF_ERROR(communicator->Start([made](NcclHandle& handle) { return made->Begin(handle); }));
  return communicator;
}

}  // namespace muster
