// A communicator's control memory on one node, and that of its generation, which ends every communicator.
#ifndef MUSTER_RUNTIME_SHM_NODE_MEMORY_H_
#define MUSTER_RUNTIME_SHM_NODE_MEMORY_H_

#include <atomic>
#include <cstdint>
#include <utility>
#include <vector>

#include "proto/muster/v1/control_memory.h"

namespace muster {

// For the communicator of all ranks the two memories are one. A communicator of some ranks has flags, slots, `asleep` words and an
// abort word of its own, but its ranks sleep on the doorbells of the generation's memory, and look at its abort word and `left` words
// too. The agent, which knows that memory alone, so reaches every waiter of every communicator as it reaches those of the first: it
// sets the word, then rings, and a sleeper has read its doorbell before it looked. Threads of one rank that sleep in different
// communicators share a doorbell; the ring for one wakes the others, which look and sleep on.
//
// Immutable; any thread. The memories are mapped and outlive it.
class NodeMemory {
 public:
  // Of all ranks. Implicit: it is all that the memory says.
  NodeMemory(v1::ControlHeader* generation);  // NOLINT(google-explicit-constructor)
  // Of some of them: `seats` are their local ranks in the generation's memory, by local rank in `own`.
  NodeMemory(v1::ControlHeader* own, v1::ControlHeader* generation, std::vector<uint32_t> seats);

  v1::ControlHeader* own() const { return own_; }
  v1::ControlHeader* generation() const { return generation_; }
  bool is_of_all_ranks() const { return own_ == generation_; }
  uint32_t seat(int local_rank) const { return seats_[static_cast<size_t>(local_rank)]; }
  v1::RankArea& seat_area(int local_rank) const { return generation_areas_[seat(local_rank)]; }

  std::atomic<uint32_t>& doorbell(int local_rank) const { return seat_area(local_rank).doorbell; }
  void Ring(int local_rank) const;
  const v1::WaitingPolicy& waiting() const { return generation_->waiting; }

  // The memory whose abort word is set, the own one first; null: neither's.
  const v1::ControlHeader* ended() const {
    if (own_->abort_word.load(std::memory_order_seq_cst) != v1::kNoAbort) return own_;
    return generation_->abort_word.load(std::memory_order_seq_cst) != v1::kNoAbort ? generation_ : nullptr;
  }
  bool HasLeft(int local_rank) const {
    return areas_[local_rank].left.load(std::memory_order_seq_cst) != 0 ||
           seat_area(local_rank).left.load(std::memory_order_seq_cst) != 0;
  }

  // Ends this communicator on this node with `word` (v1::PackAbort), and with it every other one where a process or an agent is
  // lost. What ended one before stays its reason.
  void Raise(uint64_t word) const;
  // This rank is done with the communicator of some ranks; who waits for it hears of that.
  void MarkLeft(int local_rank) const;

 private:
  v1::ControlHeader* own_;
  v1::ControlHeader* generation_;
  v1::RankArea* areas_;
  v1::RankArea* generation_areas_;
  std::vector<uint32_t> seats_;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_SHM_NODE_MEMORY_H_
