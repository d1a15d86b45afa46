// The rings that NCCL has made, from what it says of them under NCCL_DEBUG=INFO. Pure.
//
// Lines that are read, each behind "HOST:PID:TID [DEVICE] NCCL INFO ", whatever stands before (a time, a launcher's tag):
//   Channel 00/02 :    0   1   2   3            the ring of channel 0, from rank 0; long ones are cut
//   Ring 00 : 3 -> 0 -> 1                       what rank 0 receives from and sends to, from every rank
//   ... comm 0x5 rank 0 nranks 4 ... commId 0x9 - Init START      a communicator begins in this thread
//   ... comm 0x5 rank 0 nranks 4 ... - Init COMPLETE              and is made
// Source: what NCCL 2.12 to 2.28 print (src/init.cc, src/graph/rings.cc); older ones name no commId and have no START.
#ifndef MUSTER_LAUNCHER_PLANNER_NCCL_LOG_H_
#define MUSTER_LAUNCHER_PLANNER_NCCL_LOG_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

struct NcclRings {
  int ranks = 0;
  std::vector<std::string> hosts;       // by rank, as NCCL calls them; "": that rank has said nothing
  std::vector<std::vector<int>> rings;  // by channel: all ranks in the order in which data goes round; empty: not known
};

inline constexpr int kNcclRanksMax = 1 << 20;
inline constexpr int kNcclChannelsMax = 1024;

// Takes the output of all ranks, in any order of ranks; the lines of one process stand in their order. Not thread-safe.
class NcclLog {
 public:
  // Whole lines, or a whole file: a line is not put together from two calls.
  void Read(absl::string_view text);

  // The largest communicator; of several as large the last one that was begun, as after a restart.
  // Errors: NotFound where no line says a ring, with the variables that make NCCL say it; DataLoss where the lines contradict each
  // other.
  absl::StatusOr<NcclRings> Take() const;

 private:
  struct Said {
    bool is_ring = false;  // of a Ring line: {before, rank, after}; else the whole order
    int channel = 0;
    std::vector<int> ranks;
  };
  struct Communicator {
    int ranks = 0;  // 0: nobody has said
    int64_t begun = 0;
    std::map<int, std::string> hosts;
    std::map<int, std::vector<int>> orders;                     // by channel
    std::map<int, std::map<int, std::pair<int, int>>> between;  // by channel and rank: before, after
  };
  struct Thread {
    std::string communicator;  // key; empty: none has begun
    std::vector<Said> said;    // not yet known of which
  };

  void ReadLine(absl::string_view line);
  void Begin(Thread& thread, const std::string& host, absl::string_view words);
  static void Put(Communicator& communicator, const std::string& host, const Said& said);

  std::map<std::string, Communicator> communicators_;  // by commId, or by size
  std::map<std::string, Thread> threads_;              // by HOST:PID:TID
  int64_t begun_ = 0;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PLANNER_NCCL_LOG_H_
