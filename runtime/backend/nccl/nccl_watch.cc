#include "runtime/backend/nccl/nccl_watch.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/muster/v1/operation_text.h"
#include "runtime/base/clock.h"
#include "runtime/base/library_thread.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr char kHasToEnd[] = "; this process has to end";

std::string Seconds(int64_t nanoseconds) { return absl::FormatDuration(absl::Seconds(nanoseconds / 1'000'000'000)); }

std::string During(const Operation& operation) {
  return operation.what.kind == v1::OpKind::kNone ? std::string("while NCCL started")
                                                  : absl::StrCat("during ", Describe(operation.what, v1::Detail::kBrief));
}

}  // namespace

NcclWatch::NcclWatch(const NcclOptions& options, NcclClock clock, NcclHandle& handle, Communicator& told)
    : options_(options), clock_(std::move(clock)), handle_(handle), told_(told) {}

NcclWatch::~NcclWatch() {
  Finish();
  MutexLock lock(mutex_);
  if (must_end_->load()) return;
  for (const CudaEvent event : events_) options_.cuda->DestroyEvent(event);
}

absl::Status NcclWatch::Start() {
  MUSTER_ASSIGN_OR_RETURN(thread_, StartLibraryThread("NCCL's watching thread", [this] { Loop(); }));
  return absl::OkStatus();
}

void NcclWatch::Finish() {
  if (thread_ == nullptr) return;
  {
    MutexLock lock(mutex_);
    stop_ = true;
    changed_.SignalAll();
  }
  thread_->join();
  thread_.reset();
}

// --- The thread ---

void NcclWatch::Loop() {
  static_cast<void>(options_.cuda->SetDevice(options_.device));
  const NcclFlight* looked_at = nullptr;
  int64_t begin = 0;
  for (;;) {
    std::shared_ptr<NcclFlight> first;
    {
      MutexLock lock(mutex_);
      while (flights_.empty() && !stop_ && (failure_.ok() || settled_)) changed_.Wait(mutex_);
      if (!failure_.ok() && flights_.empty()) {
        if (settled_) return;  // stop_
      } else if (flights_.empty()) {
        return;
      } else {
        first = flights_.front();
        if (first.get() != looked_at) warned_ = 0;
      }
    }
    if (first == nullptr) {
      EndAfterFailure();
      continue;
    }
    if (first.get() != looked_at) begin = clock_.now();
    looked_at = first.get();
    if (LandIfDone(first)) {
      looked_at = nullptr;
    } else if (Look(first->operation(), begin).ok()) {
      clock_.pause(clock_.now() - begin);
    } else if (!LandIfDone(first)) {  // what is done by now counts: the failure is for later ones
      EndAfterFailure();
    }
  }
}

bool NcclWatch::LandIfDone(const std::shared_ptr<NcclFlight>& flight) {
  bool done = false;
  const int code = options_.cuda->EventDone(flight->end(), &done);
  if (code != kCudaOk) CudaFailed(code, flight->operation()).IgnoreError();
  if (code != kCudaOk || !done) return false;
  const CudaEvent end = flight->end();
  flight->Finish(absl::OkStatus());
  MutexLock lock(mutex_);
  events_.push_back(end);
  if (flight->ready != nullptr) events_.push_back(flight->ready);
  flights_.pop_front();
  changed_.SignalAll();
  return true;
}

void NcclWatch::EndAfterFailure() {
  const bool kept =
      options_.keeps_for_next && options_.nccl->powers().shrinks && !must_end_->load() && handle_.Revoke(options_.end_patience);
  const bool ended = kept || handle_.Abort(options_.end_patience);
  if (!ended) must_end_->store(true);
  MutexLock lock(mutex_);
  if (!ended) {
    failure_ = absl::Status(failure_.code(), absl::StrCat(failure_.message(), "; NCCL's abort had not returned after ",
                                                          absl::FormatDuration(options_.end_patience), kHasToEnd));
  }
  settled_ = true;
  FailAll();
}

void NcclWatch::FailAll() {
  while (!flights_.empty()) {
    flights_.front()->Finish(Unshared(failure_));
    events_.push_back(flights_.front()->end());
    if (flights_.front()->ready != nullptr) events_.push_back(flights_.front()->ready);
    flights_.pop_front();
  }
  changed_.SignalAll();
}

void NcclWatch::Follow(std::shared_ptr<NcclFlight> flight) {
  MutexLock lock(mutex_);
  flights_.push_back(std::move(flight));
  if (settled_) FailAll();
  changed_.SignalAll();
}

bool NcclWatch::WaitUntilIdle(int64_t deadline) {
  MutexLock lock(mutex_);
  while (!flights_.empty()) {
    const int64_t left = deadline - MonotonicNanoseconds();
    if (left <= 0) return false;
    changed_.WaitFor(mutex_, absl::Nanoseconds(left));
  }
  return true;
}

absl::Status NcclWatch::AwaitIdle(int64_t deadline) {
  if (!WaitUntilIdle(deadline)) return FailLate();
  return is_broken() ? Settled() : absl::OkStatus();
}

// Running out of order is not possible, and the others wait for this rank: over for all.
absl::Status NcclWatch::FailLate() {
  Break(absl::DeadlineExceededError("operations started before this call had not finished when its deadline passed"),
        /*tell=*/true);
  return Settled();
}

// --- Failures ---

void NcclWatch::Break(absl::Status status, bool tell) {
  {
    MutexLock lock(mutex_);
    if (!failure_.ok()) return;
    failure_ = Unshared(status);
    changed_.SignalAll();
  }
  if (tell) told_.Abort(Unshared(status));
}

bool NcclWatch::is_broken() const {
  MutexLock lock(mutex_);
  return !failure_.ok();
}

absl::Status NcclWatch::failure() const {
  MutexLock lock(mutex_);
  return Unshared(failure_);
}

absl::Status NcclWatch::Settled() {
  MutexLock lock(mutex_);
  while (!settled_) changed_.Wait(mutex_);
  return Unshared(failure_);
}

absl::Status NcclWatch::Interrupted() const { return options_.interrupted ? options_.interrupted(told_) : absl::OkStatus(); }

std::string NcclWatch::Where(const Operation& operation) const {
  return absl::StrCat("rank ", JobRank(options_, told_.rank()), " (GPU ", options_.device, ") ", During(operation));
}

absl::Status NcclWatch::Look(const Operation& operation, int64_t begin) {
  if (absl::Status status = failure(); !status.ok()) return status;
  if (absl::Status over = Interrupted(); !over.ok()) {
    Break(std::move(over), /*tell=*/false);
    return failure();
  }
  const int state = handle_.State();
  if (state != kNcclOk && state != kNcclInProgress && state != NcclHandle::kGone) return NcclFailed(state, operation);
  const int64_t now = clock_.now();
  const int64_t waited = now - begin;
  const bool starts = operation.what.kind == v1::OpKind::kNone;
  const int64_t limit = absl::ToInt64Nanoseconds(starts ? options_.start_patience : options_.hang_limit);
  if (now >= operation.deadline || waited >= limit) {
    const std::string all = starts ? "; see that the ranks reach each other (NCCL_SOCKET_IFNAME) and what NCCL_DEBUG=INFO says"
                                   : "; all ranks had called it, so NCCL or its network hangs: NCCL_DEBUG=INFO says more";
    Break(absl::DeadlineExceededError(absl::StrCat(now >= operation.deadline ? "the deadline passed" : "nothing had moved",
                                                   " after ", Seconds(waited), " in ", options_.nccl->library(), " on ",
                                                   Where(operation), all)),
          /*tell=*/true);
    return failure();
  }
  Warn(operation, waited);
  return absl::OkStatus();
}

void NcclWatch::Warn(const Operation& operation, int64_t waited) {
  if (!options_.warn || waited < absl::ToInt64Nanoseconds(options_.warn_after)) return;
  {
    MutexLock lock(mutex_);
    if (waited < 2 * warned_) return;
    warned_ = waited;
  }
  const bool starts = operation.what.kind == v1::OpKind::kNone;
  options_.warn(absl::StrCat(Where(operation), ": ", starts ? "" : "all ranks have called it, and ", options_.nccl->library(),
                             starts ? " has not started after " : " has not ended it after ", Seconds(waited)));
}

absl::Status NcclWatch::CudaFailed(int code, const Operation& operation) { return CudaFailed(code, operation, ""); }

absl::Status NcclWatch::CudaFailed(int code, const Operation& operation, const std::string& also) {
  char words[200] = "";
  options_.cuda->ErrorText(code, words, sizeof words);
  must_end_->store(true);
  Break(absl::UnavailableError(
            absl::StrCat(Where(operation), ": CUDA: ", words, also.empty() ? "" : absl::StrCat(" (", also, ")"), kHasToEnd)),
        /*tell=*/true);
  return failure();
}

absl::Status NcclWatch::LookForFault(const Operation& operation, const std::string& words) {
  CudaEvent any = nullptr;
  const int code = options_.cuda->MakeEvent(&any);
  if (code != kCudaOk) return CudaFailed(code, operation, words);
  GiveEvent(any);
  return absl::OkStatus();
}

absl::Status NcclWatch::NcclFailed(int code, const Operation& operation) {
  if (code == NcclHandle::kGone) return Settled();  // ended by a failure that came first
  const std::string text =
      absl::StrCat(options_.nccl->library(), " on ", Where(operation), ": ", options_.nccl->ErrorText(code));
  // Some of NCCL's calls of CUDA fail and harm nothing (no memory); a fault is for the process's life, whoever sees it first.
  if (code == kNcclUnhandledCudaError) MUSTER_RETURN_IF_ERROR(LookForFault(operation, text));
  // The one that died is known to who watches processes, a moment later than to its peers' sockets.
  const int64_t begin = clock_.now();
  while (code == kNcclRemoteError || code == kNcclSystemError) {
    if (absl::Status over = Interrupted(); !over.ok()) {
      Break(absl::Status(over.code(), absl::StrCat(over.message(), " (", text, ")")), /*tell=*/false);
      return failure();
    }
    const int64_t waited = clock_.now() - begin;
    if (waited >= absl::ToInt64Nanoseconds(options_.naming_patience)) break;
    clock_.pause(waited);
  }
  const bool refused = operation.what.kind == v1::OpKind::kNone && code == kNcclInvalidUsage;
  Break(refused ? absl::FailedPreconditionError(text) : absl::UnavailableError(text), /*tell=*/true);
  return failure();
}

// --- Events ---

absl::Status NcclWatch::TakeEvent(CudaEvent* event, const Operation& operation) {
  {
    MutexLock lock(mutex_);
    if (!events_.empty()) {
      *event = events_.back();
      events_.pop_back();
      return absl::OkStatus();
    }
  }
  const int code = options_.cuda->MakeEvent(event);
  return code == kCudaOk ? absl::OkStatus() : CudaFailed(code, operation);
}

void NcclWatch::GiveEvent(CudaEvent event) {
  if (event == nullptr) return;
  MutexLock lock(mutex_);
  events_.push_back(event);
}

}  // namespace muster
