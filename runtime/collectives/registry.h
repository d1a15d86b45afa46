// Which algorithm carries out a collective: an explicit table over size, number of ranks and where the buffers lie.
#ifndef MUSTER_RUNTIME_COLLECTIVES_REGISTRY_H_
#define MUSTER_RUNTIME_COLLECTIVES_REGISTRY_H_

#include <atomic>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/shm/member.h"
#include "runtime/shm/operation.h"

namespace muster {

enum class Placement {
  kUnknown = 0,    // before the ranks have exchanged their announcements
  kOneWindow = 1,  // every rank's input lies in the same window
  kMixed = 2,      // anything else; also what is so small that nobody looks where it lies
};

// What the choice depends on: only what every rank knows to be equal on all ranks.
struct Situation {
  int ranks = 1;
  int64_t contribution_bytes = 0;  // ContributionBytes()
  int64_t slot_bytes = 0;
  Placement placement = Placement::kUnknown;
};

struct Algorithm {
  const char* name;
  bool (*fits)(const Situation& situation);
  absl::Status (*run)(Member& member, const Operation& operation);
};

// In order of preference; the first that fits is taken. tests/property/native drives each of them.
std::span<const Algorithm> Algorithms();

// Null when none fits yet: the announcements must be exchanged first, and the choice made again with their placement.
const Algorithm* Select(const Situation& situation);

// Carries out `operation` on this rank: announces it, selects, runs. `callers_inside` as in Member::Begin.
absl::Status RunCollective(Member& member, const Operation& operation, const std::atomic<int>* callers_inside);

}  // namespace muster

#endif  // MUSTER_RUNTIME_COLLECTIVES_REGISTRY_H_
