#include "runtime/shm/member.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {

namespace {

std::vector<int> OrTheirOwn(std::vector<int> job_ranks, int world_size) {
  if (job_ranks.empty()) {
    job_ranks.resize(static_cast<size_t>(world_size));
    std::iota(job_ranks.begin(), job_ranks.end(), 0);
  }
  return job_ranks;
}

}  // namespace

Member::Member(NodeMemory memory, int local_rank, std::string host, int first_rank, int world_size, std::vector<int> job_ranks,
               SplitRecord record)
    : memory_(std::move(memory)),
      control_(memory_.own()),
      areas_(&v1::RankAreaOf(control_, 0)),
      own_(areas_[local_rank]),
      rank_(local_rank),
      ranks_(static_cast<int>(control_->local_size)),
      first_rank_(first_rank),
      world_size_(world_size == 0 ? ranks_ : world_size),
      job_ranks_(OrTheirOwn(std::move(job_ranks), world_size_)),
      host_(std::move(host)),
      record_(record),
      waiter_(memory_, local_rank) {}

absl::Status Member::Begin(const Operation& operation, const std::atomic<int>* callers_inside) {
  if (failure_.has_value()) return failure_->status;
  what_ = operation.what;
  if (memory_.ended() != nullptr) return FailByAbortWord();
  deadline_ = operation.deadline;
  callers_inside_ = callers_inside;
  ++op_seq_;
  own_.descriptors[parity()] = what_;
  own_.flags[parity()].digest = DigestOf(what_);
  OpenFlightRecord();
  return absl::OkStatus();
}

void Member::OpenFlightRecord() {
  if (record_.entry != nullptr) {
    open_record_ = &record_.entry->entry;
    if (op_seq_ == 1) TakeSplitRecord();
    FillRecord();
    return;
  }
  const uint64_t next = own_.flight_next.load(std::memory_order_relaxed);
  open_record_ = &own_.flight[next % v1::kFlightEntries];
  FillRecord();
  own_.flight_next.store(next + 1, std::memory_order_release);
}

void Member::FillRecord() {
  open_record_->what = what_;
  open_record_->begin_ns = static_cast<uint64_t>(MonotonicNanoseconds());
  open_record_->end_ns = 0;
  open_record_->op_seq = op_seq_;
}

// What stands there is the last operation of a communicator that is gone.
void Member::TakeSplitRecord() {
  open_record_->op_seq = 0;
  record_.entry->communicator = record_.communicator;
  record_.entry->world_size = static_cast<uint32_t>(world_size_);
  record_.entry->rank = static_cast<uint32_t>(world_rank());
}

void Member::Finish(bool timed) {
  open_record_->end_ns = timed ? static_cast<uint64_t>(MonotonicNanoseconds()) : open_record_->begin_ns;
}

void Member::FinishFailed() {
  if (record_.entry != nullptr && open_record_ != nullptr && open_record_->end_ns == 0) Finish(/*timed=*/true);
}

absl::Status Member::Arrive() {
  const size_t parity = this->parity();
  const uint64_t op_seq = op_seq_;
  int seen = 0;
  return PublishAndWait(own_.flags[parity].op_seq, op_seq, [&, this] {
    while (seen < ranks_ && areas_[seen].flags[parity].op_seq.load(std::memory_order_seq_cst) == op_seq) ++seen;
    return seen == ranks_ ? -1 : seen;
  });
}

bool Member::CallsAgree() const {
  const size_t parity = this->parity();
  const uint64_t digest = own_.flags[parity].digest;
  for (int r = 0; r < ranks_; ++r) {
    if (areas_[r].flags[parity].digest != digest) return false;
  }
  return true;
}

std::vector<Call> Member::DifferentCalls() const {
  std::vector<v1::OpDescriptor> all;
  for (int r = 0; r < ranks_; ++r) all.push_back(announced(r));
  return muster::DifferentCalls(all, local_job_ranks());
}

absl::Status Member::Exchange() {
  MUSTER_RETURN_IF_ERROR(Arrive());
  return CallsAgree() ? absl::OkStatus() : Fail(MismatchFailure(DifferentCalls()));
}

void Member::AllowMoreTime(int64_t nanoseconds) {
  deadline_ = deadline_ > INT64_MAX - nanoseconds ? INT64_MAX : deadline_ + nanoseconds;
}

int64_t Member::spin_nanoseconds() const {
  const bool may_spin = callers_inside_ == nullptr || callers_inside_->load(std::memory_order_relaxed) > 0;
  return may_spin ? memory_.waiting().spin_nanoseconds.load(std::memory_order_relaxed) : 0;
}

absl::Status Member::Step(Waiter::Meanwhile meanwhile) {
  const uint64_t steps = ++steps_;
  int seen = 0;
  const auto condition = [&, this] {
    while (seen < ranks_ && areas_[seen].steps.load(std::memory_order_seq_cst) >= steps) ++seen;
    return seen == ranks_ ? -1 : seen;
  };
  return PublishAndWait(own_.steps, steps, condition, meanwhile);
}

bool Member::Claim(int owner, int chunk) {
  std::atomic<uint64_t>& claim = areas_[owner].claims[chunk].op_seq;
  uint64_t last = claim.load(std::memory_order_relaxed);
  return last != op_seq_ && claim.compare_exchange_strong(last, op_seq_, std::memory_order_acq_rel);
}

absl::Status Member::FinishChunks(int64_t mine, int64_t total) {
  const uint64_t op_seq = op_seq_;
  return PublishAndWait(own_.chunks, op_seq << v1::kChunkBits | static_cast<uint64_t>(mine), [&, this] {
    int64_t sum = 0;
    int missing = -1;
    for (int r = 0; r < ranks_; ++r) {
      const uint64_t word = areas_[r].chunks.load(std::memory_order_seq_cst);
      if (word >> v1::kChunkBits == op_seq) {
        sum += static_cast<int64_t>(word & ((uint64_t{1} << v1::kChunkBits) - 1));
      } else if (missing < 0) {
        missing = r;
      }
    }
    return sum == total ? -1 : std::max(missing, 0);
  });
}

bool Member::InputsInOneWindow() const {
  const uint32_t window = announced(0).window;
  for (int r = 0; r < ranks_; ++r) {
    if (announced(r).window != window) return false;
  }
  return window != v1::kPrivateMemory;
}

bool Member::SomeInputInWindow() const {
  for (int r = 0; r < ranks_; ++r) {
    if (announced(r).window != v1::kPrivateMemory) return true;
  }
  return false;
}

absl::Status Member::PublishAndWait(std::atomic<uint64_t>& word, uint64_t value, Waiter::Condition condition,
                                    Waiter::Meanwhile meanwhile) {
  if (failure_.has_value()) return failure_->status;
  const bool may_spin = callers_inside_ == nullptr || callers_inside_->load(std::memory_order_relaxed) > 0;
  const WaitOutcome outcome = waiter_.PublishAndWait(word, value, condition, deadline_, may_spin, meanwhile);
  return outcome.end == WaitEnd::kDone ? absl::OkStatus() : Fail(outcome);
}

absl::Status Member::Fail(const WaitOutcome& outcome) {
  if (outcome.end == WaitEnd::kPeerLeft) return Fail(PeerLeftFailure(JobRank(first_rank_ + outcome.missing), host_, what_));
  if (outcome.end == WaitEnd::kDeadline) return Fail(DeadlineFailure(JobRank(first_rank_ + outcome.missing), host_, what_));
  return FailByAbortWord();
}

absl::Status Member::Fail(Failure failure) {
  if (failure_.has_value()) return failure_->status;
  failure_ = std::move(failure);
  // The others cannot finish without this rank either; no effect if the communicator has been ended already.
  const uint32_t detail = failure_->text.empty() ? failure_->detail : TextDetail(failure_->text);
  memory_.Raise(v1::PackAbort(failure_->reason, failure_->rank, detail));
  return failure_->status;
}

absl::Status Member::FailByAbortWord() {
  const v1::ControlHeader* const ended = memory_.ended();
  MUSTER_CHECK(ended != nullptr, "the communicator has ended");
  if (failure_.has_value()) return failure_->status;
  failure_ = FailureOfEnd(*ended, what_);
  return failure_->status;
}

absl::Status Member::FailBetweenNodes(v1::AbortReason reason, uint32_t job_rank, uint32_t detail, const std::string& text) {
  if (failure_.has_value()) return failure_->status;
  const bool has_text = reason == v1::AbortReason::kAborted || reason == v1::AbortReason::kMismatch;
  memory_.Raise(v1::PackAbort(reason, job_rank, has_text ? TextDetail(text) : detail));
  return FailByAbortWord();
}

absl::Status Member::FailByMismatch(std::span<const Call> calls) { return Fail(MismatchFailure(calls)); }

std::string Member::HostOf(uint32_t job_rank) const {
  v1::ControlHeader* const generation = memory_.generation();
  const auto first_here = static_cast<uint32_t>(JobRank(world_rank())) - memory_.seat(rank_);
  if (job_rank - first_here < generation->local_size || job_rank == v1::kNoRank) return host_;
  if (generation->peers_offset == 0 || job_rank >= generation->world_size) return "";
  const char* begin = v1::PeerEntryOf(generation, job_rank).host;
  return std::string(begin, std::find(begin, begin + sizeof(v1::PeerEntry::host), '\0'));
}

// Writes `text` for the other ranks of this node; what an abort word's detail must be for them to find it.
uint32_t Member::TextDetail(const std::string& text) {
  if (text.empty() || text_taken_.exchange(true)) return 0;
  const size_t length = std::min(text.size(), sizeof(own_.abort_text) - 1);
  std::copy_n(text.data(), length, own_.abort_text);
  own_.abort_text[length] = '\0';
  return static_cast<uint32_t>(rank_) + 1;
}

Failure Member::FailureOfEnd(const v1::ControlHeader& ended, const v1::OpDescriptor& what) const {
  const uint64_t word = ended.abort_word.load(std::memory_order_seq_cst);
  const v1::AbortReason reason = v1::AbortReasonOf(word);
  const uint32_t detail = v1::AbortDetailOf(word);
  std::string text;
  if ((reason == v1::AbortReason::kAborted || reason == v1::AbortReason::kMismatch) && detail > 0 &&
      detail <= ended.local_size) {
    const char* begin = v1::RankAreaOf(const_cast<v1::ControlHeader*>(&ended), detail - 1).abort_text;
    text.assign(begin, std::find(begin, begin + sizeof(v1::RankArea::abort_text), '\0'));
  }
  return AbortFailure(word, control_->generation, HostOf(v1::AbortRankOf(word)), text, what);
}

std::optional<Failure> Member::WhyOver() const {
  const v1::ControlHeader* const ended = memory_.ended();
  if (ended == nullptr) return std::nullopt;
  return FailureOfEnd(*ended, {});
}

void Member::Abort(const absl::Status& reason) {
  if (abort_called_.exchange(true)) return;
  const uint32_t detail = TextDetail(std::string(reason.message()));
  memory_.Raise(v1::PackAbort(v1::AbortReason::kAborted, static_cast<uint32_t>(JobRank(world_rank())), detail));
}

}  // namespace muster
