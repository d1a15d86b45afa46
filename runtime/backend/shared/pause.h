// What a thread does between two looks at something that no one wakes it for.
#ifndef MUSTER_RUNTIME_BACKEND_SHARED_PAUSE_H_
#define MUSTER_RUNTIME_BACKEND_SHARED_PAUSE_H_

#include <cstdint>

namespace muster {

// Ranks may share cores, so nobody spins; who has waited long (nanoseconds) leaves the core alone.
void YieldThenNap(int64_t waited);

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_SHARED_PAUSE_H_
