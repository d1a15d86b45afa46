// How long what is asked to end may take, unless a job says otherwise.
#ifndef MUSTER_LAUNCHER_PROCESS_ENDINGS_H_
#define MUSTER_LAUNCHER_PROCESS_ENDINGS_H_

#include "absl/time/time.h"

namespace muster {

inline constexpr absl::Duration kKillGrace = absl::Seconds(5);               // asked to stop: SIGTERM to SIGKILL (--kill-grace)
inline constexpr absl::Duration kFailureGrace = absl::Milliseconds(400);     // after a failure: the same (--failure-grace)
inline constexpr absl::Duration kRankStatesPatience = absl::Seconds(1);      // for answers to "where are your ranks?"

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_ENDINGS_H_
