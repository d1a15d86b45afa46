// How much may pass between the nodes of a generation beside what the control plane itself says.
#ifndef MUSTER_LAUNCHER_EXCHANGE_BOUNDS_H_
#define MUSTER_LAUNCHER_EXCHANGE_BOUNDS_H_

#include <cstddef>

namespace muster {

inline constexpr size_t kContributionBytesMax = size_t{1} << 20;  // of one node to one gather, of one question or answer
inline constexpr size_t kGatheredBytesMax = size_t{32} << 20;     // all parts of one gather
inline constexpr size_t kGathersBytesMax = size_t{64} << 20;      // of all gathers that are not done
inline constexpr size_t kGathersMax = 256;                        // at a time
inline constexpr size_t kGatherNameBytesMax = 256;
inline constexpr size_t kQuestionsMax = 4096;             // of one node, not answered yet
inline constexpr size_t kHeldBytesMax = size_t{1} << 20;  // that come to a node before it has begun

}  // namespace muster

#endif  // MUSTER_LAUNCHER_EXCHANGE_BOUNDS_H_
