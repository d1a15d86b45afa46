// An ending in words: class, sentence with its remedy, and exit code. Pure.
#ifndef MUSTER_LAUNCHER_COORDINATOR_CAUSE_H_
#define MUSTER_LAUNCHER_COORDINATOR_CAUSE_H_

#include <cstdint>
#include <string>

#include "launcher/coordinator/verdict.h"
#include "muster/v1/agent.pb.h"

namespace muster {

inline constexpr int kExitInternal = 70;  // our bug, or nobody's own code

// What `muster` ends with, were this ending the only cause: the worker's code, 128 + its signal, 126, 127 or 70.
int ExitCodeOf(const v1::Ending& ending);

// True if the exit code is the worker's own.
bool IsRankOwn(v1::Ending::Kind kind);

// "rank 2 on host node-a"; with a program "rank 2 (train) on host node-a".
std::string NameRank(uint32_t rank, const std::string& program, const std::string& host);

// " at step 41"; empty before the first committed step.
std::string AtStep(int64_t step);

// Fills class, sentence and codes of `cause`, whose rank and host are set. `who` is "rank 2 on host node-a".
void DescribeEnding(const v1::Ending& ending, const std::string& who, const std::string& at_step, Cause& cause);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_COORDINATOR_CAUSE_H_
