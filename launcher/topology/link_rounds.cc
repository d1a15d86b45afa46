#include "launcher/topology/link_rounds.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

namespace muster {
namespace {

// SplitMix64, the same on every machine. Source: Steele, Lea and Flood, OOPSLA 2014.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  int Below(int bound) {
    state_ += 0x9e3779b97f4a7c15;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return static_cast<int>((z ^ (z >> 31)) % static_cast<uint64_t>(bound));
  }

 private:
  uint64_t state_;
};

LinkPair Ordered(int a, int b) { return {std::min(a, b), std::max(a, b)}; }

}  // namespace

std::vector<LinkRound> TournamentRounds(const std::vector<int>& among) {
  const int players = static_cast<int>(among.size()) + static_cast<int>(among.size() % 2);  // one rests where they are odd
  std::vector<LinkRound> rounds;
  for (int round = 0; round + 1 < players; ++round) {
    LinkRound pairs;
    // The last stands still, the others move on by one each round.
    const auto seat = [&](int place) { return place == players - 1 ? place : (place + round) % (players - 1); };
    for (int place = 0; place < players / 2; ++place) {
      const int a = seat(place), b = seat(players - 1 - place);
      if (a >= static_cast<int>(among.size()) || b >= static_cast<int>(among.size())) continue;
      pairs.push_back(Ordered(among[static_cast<size_t>(a)], among[static_cast<size_t>(b)]));
    }
    rounds.push_back(std::move(pairs));
  }
  return rounds;
}

std::vector<LinkRound> TournamentRounds(int nodes) {
  std::vector<int> all(static_cast<size_t>(std::max(nodes, 0)));
  std::iota(all.begin(), all.end(), 0);
  return TournamentRounds(all);
}

std::vector<LinkRound> SampledRounds(int nodes, int rounds, uint64_t seed) {
  Random random(seed);
  std::set<LinkPair> seen;
  std::vector<LinkRound> sampled;
  std::vector<int> order(static_cast<size_t>(nodes));
  std::iota(order.begin(), order.end(), 0);
  for (int round = 0; round < rounds; ++round) {
    for (int i = nodes - 1; i > 0; --i)
      std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(random.Below(i + 1))]);
    LinkRound pairs;
    for (size_t i = 0; i + 1 < order.size(); i += 2) {
      const LinkPair pair = Ordered(order[i], order[i + 1]);
      if (seen.insert(pair).second) pairs.push_back(pair);
    }
    sampled.push_back(std::move(pairs));
  }
  return sampled;
}

int SampledRoundsFor(int nodes, int group) {
  // A random graph on g nodes hangs together once its mean degree is ln(g) and some more (Erdos and Renyi, 1959); a round gives a node a
  // partner of its group with probability (g - 1) / (n - 1).
  const double degree = std::log(static_cast<double>(std::max(group, 2))) + 4;
  const double rounds = std::ceil(degree * (nodes - 1) / std::max(group - 1, 1));
  return static_cast<int>(std::min<double>(rounds, nodes - 1));
}

}  // namespace muster
