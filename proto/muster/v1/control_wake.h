// What agent and members do to a control memory from outside a collective: end a generation, leave it, wake everybody.
//
// Any thread, any process that maps the memory. The waiting side is runtime/shm/waiter.h.
#ifndef MUSTER_PROTO_V1_CONTROL_WAKE_H_
#define MUSTER_PROTO_V1_CONTROL_WAKE_H_

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>

#include "proto/muster/v1/control_memory.h"

namespace muster::v1 {

// Bumps the doorbell of `area` and wakes its rank if it sleeps on it. The futex is shared between processes.
inline void RingDoorbell(RankArea& area) {
  area.doorbell.fetch_add(1, std::memory_order_seq_cst);
  ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&area.doorbell), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

inline void RingEveryDoorbell(ControlHeader* header) {
  for (uint32_t i = 0; i < header->local_size; ++i) RingDoorbell(RankAreaOf(header, i));
}

// Ends the generation for everybody: blocked and later collectives fail with what `word` says (PackAbort), except those whose
// contributions are all there. False if it had ended already; the first word stays.
inline bool RaiseAbort(ControlHeader* header, uint64_t word) {
  uint64_t none = kNoAbort;
  const bool first = header->abort_word.compare_exchange_strong(none, word, std::memory_order_seq_cst);
  if (first) RingEveryDoorbell(header);
  return first;
}

// A clean leave of one rank, after its last collective: peers that still need it report kPeerLeft.
inline void MarkLeft(ControlHeader* header, uint32_t local_rank) {
  RankAreaOf(header, local_rank).left.exchange(1, std::memory_order_seq_cst);
  RingEveryDoorbell(header);
}

}  // namespace muster::v1

#endif  // MUSTER_PROTO_V1_CONTROL_WAKE_H_
