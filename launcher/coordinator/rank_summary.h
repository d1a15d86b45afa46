// Where the ranks of a job are, in a few words: equal ones together, the odd one out first. Pure.
#ifndef MUSTER_LAUNCHER_COORDINATOR_RANK_SUMMARY_H_
#define MUSTER_LAUNCHER_COORDINATOR_RANK_SUMMARY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/coordinator/verdict.h"

namespace muster {

struct RankGroup {
  std::vector<uint32_t> ranks;  // ascending
  std::string what;             // "has not called all_reduce of 4096 f32 (op 120); its last call, op 119, ended 12 s before"
};

struct RankSummary {
  std::vector<RankGroup> groups;  // the most suspicious first
  // Those of them that fit: "rank 4 on host a has not called all_reduce of 4096 f32 (op 120), ...; ranks 0-3, 5 are in it".
  std::string sentence;
  int32_t odd_rank = -1;  // the only one of the first group, where there are others; -1: none
};

// From the answers of the agents and what else is known of the generation: a rank that has neither answered nor ended is one whose
// agent did not answer.
RankSummary SummarizeRanks(const Evidence& evidence);

// "0-3, 5".
std::string RankRanges(const std::vector<uint32_t>& ranks);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_COORDINATOR_RANK_SUMMARY_H_
