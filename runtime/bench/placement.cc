#include "runtime/bench/placement.h"

#include <sched.h>

namespace muster::bench {

int UsableCores() {
  cpu_set_t cores;
  return sched_getaffinity(0, sizeof(cores), &cores) == 0 ? CPU_COUNT(&cores) : 1;
}

bool BindToOwnCore(int rank, int ranks) {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) != 0 || CPU_COUNT(&cores) < ranks) return false;
  int core = 0;
  for (int seen = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &cores) && seen++ == rank) break;
  }
  cpu_set_t own;
  CPU_ZERO(&own);
  CPU_SET(core, &own);
  return sched_setaffinity(0, sizeof(own), &own) == 0;
}

}  // namespace muster::bench
