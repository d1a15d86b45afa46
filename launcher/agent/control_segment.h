// The agent's side of one generation's control memory (proto/muster/v1/control_memory.h).
#ifndef MUSTER_LAUNCHER_AGENT_CONTROL_SEGMENT_H_
#define MUSTER_LAUNCHER_AGENT_CONTROL_SEGMENT_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "proto/muster/v1/control_memory.h"
#include "proto/muster/v1/waiting_policy.h"
#include "runtime/base/fd.h"

namespace muster {

// What each rank of a generation is given for staging, the same on all nodes, so that the whole stays moderate on the largest and the
// algorithms find room on all. `node_sizes`: the ranks of each node, not empty.
uint32_t StagingBytesFor(std::span<const uint32_t> node_sizes);

// Makes, fills, seals and maps the memory. Trusts nothing in it afterwards: workers may write anywhere. Any thread, but for
// LastOperation's own reads, which may race with the worker and are then merely stale.
class ControlSegment {
 public:
  // `job_id`: 16 bytes; `peers`: an entry for each rank of the world where it has several nodes, else none.
  // Errors: InvalidArgument (too many ranks on this node), ResourceExhausted (no memory).
  static absl::StatusOr<std::shared_ptr<ControlSegment>> Create(uint64_t generation, const std::string& job_id,
                                                                uint32_t world_size, uint32_t local_size,
                                                                std::span<const v1::PeerEntry> peers = {});
  ~ControlSegment();
  ControlSegment(const ControlSegment&) = delete;
  ControlSegment& operator=(const ControlSegment&) = delete;

  int fd() const { return fd_.get(); }

  // Ends what runs and wakes every waiter; a word that stands already stays.
  void Abort(uint64_t word);
  // For a rank that ended well without ever joining: whoever needs it reports that it left.
  void MarkLeft(uint32_t local_rank);
  void SetWaiting(const v1::WaitingAdvice& advice) { v1::StoreWaitingAdvice(advice, header_->waiting); }

  // What the rank's flight record says of the operation that it began last, in whichever communicator (`communicator` 0: that of all
  // ranks); op_seq 0 if there is none.
  v1::SplitFlightEntry LastOperation(uint32_t local_rank) const;

 private:
  ControlSegment(UniqueFd fd, v1::ControlHeader* header, uint32_t local_size, int64_t bytes);
  v1::RankArea& AreaOf(uint32_t local_rank) const;
  void RingAll();

  UniqueFd fd_;
  v1::ControlHeader* header_;
  const uint32_t local_size_;
  const int64_t bytes_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_CONTROL_SEGMENT_H_
