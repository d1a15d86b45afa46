// One rank's hold on its node's control memory: counts operations, exchanges flags, steps and chunks with its peers.
//
// Every operation begins with Begin and one Exchange, in which each rank sees every rank's flag. That makes each operation a
// barrier, and it makes double buffering enough: after the Exchange of operation n no rank is inside n - 1, so what n - 1 used
// may be overwritten. Flags, slots and descriptors are written before the Exchange and so alternate by the number's parity.
#ifndef MUSTER_RUNTIME_SHM_MEMBER_H_
#define MUSTER_RUNTIME_SHM_MEMBER_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/shm/failure.h"
#include "runtime/shm/node_memory.h"
#include "runtime/shm/operation.h"
#include "runtime/shm/waiter.h"
#include "runtime/shm/window_map.h"

namespace muster {

// Where the operations of a communicator made by Split are recorded; of all ranks: in the flight record of their memory.
struct SplitRecord {
  v1::SplitFlightEntry* entry = nullptr;
  uint64_t communicator = 0;
};

// Ranks here are local ones. The world is the communicator's, in which the ranks of a node follow each other. Whom a failure names is
// the rank of the job, whatever it is called here: an operator knows no other.
//
// One thread at a time, except windows(), WhyOver() and Abort(). After the first error every method that can fail returns it again.
class Member {
 public:
  // `memory` outlives the member; `host` is named in errors. `first_rank` is the world's rank of local rank 0; `world_size` 0: the
  // ranks of this node are the world. `job_ranks`, by rank of the world; empty: they are the same.
  Member(NodeMemory memory, int local_rank, std::string host, int first_rank = 0, int world_size = 0,
         std::vector<int> job_ranks = {}, SplitRecord record = {});

  int rank() const { return rank_; }
  int ranks() const { return ranks_; }
  int first_rank() const { return first_rank_; }
  int world_rank() const { return first_rank_ + rank_; }
  int world_size() const { return world_size_; }
  int JobRank(int world_rank) const { return job_ranks_[static_cast<size_t>(world_rank)]; }
  std::span<const int> job_ranks() const { return job_ranks_; }
  std::span<const int> local_job_ranks() const {
    return std::span(job_ranks_).subspan(static_cast<size_t>(first_rank_), static_cast<size_t>(ranks_));
  }
  const NodeMemory& memory() const { return memory_; }
  uint64_t op_seq() const { return op_seq_; }
  WindowMap& windows() { return windows_; }

  // Counts the next operation, announces it and opens its flight record. Its waits spin only while `callers_inside` counts
  // somebody who waits for it (null: the caller does), else they go to sleep at once.
  // Errors: what an abort word that is already there says; then nothing was announced.
  absl::Status Begin(const Operation& operation, const std::atomic<int>* callers_inside);

  // Closes the flight record. `timed` false leaves out reading the clock, which costs a tenth of the smallest operation.
  void Finish(bool timed);
  // After an error: closes it too, where the job may go on without this communicator.
  void FinishFailed();

  // Publishes this rank's flag and waits for all. Errors: also InvalidArgument when the calls differ.
  absl::Status Exchange();
  // The same without a look at what the others called, which is then for the caller to compare.
  absl::Status Arrive();
  bool CallsAgree() const;
  std::vector<Call> DifferentCalls() const;

  // After Exchange: what rank `r` announced, its flag line's payload and its slot. Before it: this rank's own, to be filled.
  const v1::OpDescriptor& announced(int r) const { return areas_[r].descriptors[parity()]; }
  char* payload(int r) const { return reinterpret_cast<char*>(areas_[r].flags[parity()].payload); }
  char* slot(int r) const { return v1::SlotOf(control_, static_cast<uint32_t>(r), static_cast<int>(parity())); }
  char* staging(int r, int64_t buffer) const {
    return v1::StagingOf(control_, static_cast<uint32_t>(r), static_cast<int>(buffer % 3));
  }
  int64_t slot_bytes() const { return control_->slot_bytes; }
  // Up to here an input is copied even where it lies in a window: a second exchange would cost more than the copy.
  int64_t copied_bytes_max() const { return slot_bytes() / 8; }
  int64_t staging_bytes() const { return control_->staging_bytes; }

  // A barrier inside an operation; `meanwhile` as for Waiter.
  absl::Status Step(Waiter::Meanwhile meanwhile = std::nullopt);

  // Between nodes a rank waits for ranks that wait for others in their turn. Each outer wait gets some time more, so that the
  // innermost one ends first and names who is really missing.
  void AllowMoreTime(int64_t nanoseconds);
  int64_t deadline() const { return deadline_; }
  // How long a wait may poll before it sleeps.
  int64_t spin_nanoseconds() const;

  // Whether the communicator or its generation has ended: what waits elsewhere than here looks at it. FailByAbortWord() is then its
  // error.
  bool IsAborted() const { return memory_.ended() != nullptr; }
  absl::Status FailByAbortWord();
  // Ends the communicator for this node with what another node said or did not say; `reason` is not kNone. Whatever ended it
  // before stays the reason.
  absl::Status FailBetweenNodes(v1::AbortReason reason, uint32_t job_rank, uint32_t detail, const std::string& text);
  absl::Status FailByMismatch(std::span<const Call> calls);
  // Empty where unknown.
  std::string HostOf(uint32_t job_rank) const;

  // True for exactly one caller among all ranks, for each chunk of rank `owner` in this operation.
  bool Claim(int owner, int chunk);
  // This rank has finished `mine` chunks and claims no more; waits until all ranks together have finished `total`.
  absl::Status FinishChunks(int64_t mine, int64_t total);
  // Whether ranks share cores, so that chunks of a rank that does not run should be taken over.
  bool oversubscribed() const { return memory_.waiting().oversubscribed.load(std::memory_order_relaxed) != 0; }

  // Whether all ranks announced an input in one and the same window.
  bool InputsInOneWindow() const;
  // Whether any did in any.
  bool SomeInputInWindow() const;

  // Ends the communicator for all with `reason`'s message. Any thread; only the first call of this rank has an effect.
  void Abort(const absl::Status& reason);

  // What the abort word says, if it says something: for who waits for other things than this. Any thread.
  std::optional<Failure> WhyOver() const;

  // Why this rank's first failed operation failed; for the agent.
  const std::optional<Failure>& failure() const { return failure_; }

 private:
  size_t parity() const { return op_seq_ & 1; }
  absl::Status PublishAndWait(std::atomic<uint64_t>& word, uint64_t value, Waiter::Condition condition,
                              Waiter::Meanwhile meanwhile = std::nullopt);
  absl::Status Fail(const WaitOutcome& outcome);
  absl::Status Fail(Failure failure);
  Failure FailureOfEnd(const v1::ControlHeader& ended, const v1::OpDescriptor& what) const;
  uint32_t TextDetail(const std::string& text);
  void OpenFlightRecord();
  void FillRecord();
  void TakeSplitRecord();

  const NodeMemory memory_;
  v1::ControlHeader* const control_;  // the own one of memory_
  v1::RankArea* areas_;
  v1::RankArea& own_;
  const int rank_;
  const int ranks_;
  const int first_rank_;
  const int world_size_;
  const std::vector<int> job_ranks_;
  const std::string host_;
  const SplitRecord record_;
  v1::FlightEntry* open_record_ = nullptr;  // of the last operation
  Waiter waiter_;
  WindowMap windows_;
  uint64_t op_seq_ = 0;
  uint64_t steps_ = 0;
  int64_t deadline_ = INT64_MAX;
  const std::atomic<int>* callers_inside_ = nullptr;
  v1::OpDescriptor what_ = {};
  std::optional<Failure> failure_;
  std::atomic<bool> text_taken_{false};  // abort_text is written once
  std::atomic<bool> abort_called_{false};
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_SHM_MEMBER_H_
