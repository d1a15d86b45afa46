// What an agent hears of the MPI programs that run on its node.
#ifndef MUSTER_LAUNCHER_MPI_MPI_EVENTS_H_
#define MUSTER_LAUNCHER_MPI_MPI_EVENTS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "runtime/base/log.h"

namespace muster {

enum class MpiProtocol { kPmix, kPmi };

// How the names of what nodes gather for each begin.
inline constexpr char kPmixGathers[] = "pmix-", kPmiGathers[] = "pmi-";

struct MpiEvents {
  std::function<void(uint32_t rank)> joined;             // MPI_Init
  std::function<void(uint32_t rank)> left;               // MPI_Finalize
  std::function<void(uint32_t rank, int code)> aborted;  // MPI_Abort
  std::function<void()> met_by_pmi;                      // a barrier of PMI-1 between nodes is over: every rank has been in it
  // One of another node waits for ranks of this one: "rank 0", "a rank on host b"
  std::function<void(const std::string& who)> awaited;
  // The MPI programs of this node cannot go on. `why` follows a rank's name: "calls MPI_Init, but ..."
  std::function<void(const std::string& why)> failed;
  std::function<void(LogLevel level, const std::string& line)> log;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_MPI_MPI_EVENTS_H_
