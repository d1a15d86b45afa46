// What an agent hears of the MPI programs that run on its node.
#ifndef MUSTER_LAUNCHER_MPI_MPI_EVENTS_H_
#define MUSTER_LAUNCHER_MPI_MPI_EVENTS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "runtime/base/log.h"

namespace muster {

struct MpiEvents {
  std::function<void(uint32_t rank)> joined;             // MPI_Init
  std::function<void(uint32_t rank)> left;               // MPI_Finalize
  std::function<void(uint32_t rank, int code)> aborted;  // MPI_Abort
  // The MPI programs of this node cannot go on. `why` follows a rank's name: "calls MPI_Init, but ..."
  std::function<void(const std::string& why)> failed;
  std::function<void(LogLevel level, const std::string& line)> log;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_MPI_MPI_EVENTS_H_
