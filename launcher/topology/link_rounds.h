// Which pairs of nodes measure the way between them, and when. Pure.
//
// In one round every node is in one pair at most, so no measurement disturbs another on a node's own link; that pairs of one round share
// the links above is what jobs do too.
#ifndef MUSTER_LAUNCHER_TOPOLOGY_LINK_ROUNDS_H_
#define MUSTER_LAUNCHER_TOPOLOGY_LINK_ROUNDS_H_

#include <cstdint>
#include <utility>
#include <vector>

namespace muster {

using LinkPair = std::pair<int, int>;  // the smaller node first
using LinkRound = std::vector<LinkPair>;

// Up to so many nodes all pairs are measured.
inline constexpr int kAllPairsMax = 64;

// Every pair of `nodes` once: nodes - 1 rounds, or `nodes` where their number is odd. Source: the circle method of round-robin
// tournaments (Kirkman, 1847).
std::vector<LinkRound> TournamentRounds(int nodes);
// The same among some nodes of a larger number.
std::vector<LinkRound> TournamentRounds(const std::vector<int>& among);

// `rounds` random pairings of all nodes (but one where their number is odd), no pair twice; the same for the same seed.
std::vector<LinkRound> SampledRounds(int nodes, int rounds, uint64_t seed);
// How many it takes until groups of at least `group` nodes hang together by pairs inside them, all but surely.
int SampledRoundsFor(int nodes, int group);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_TOPOLOGY_LINK_ROUNDS_H_
