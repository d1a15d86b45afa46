#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "launcher/planner/bottleneck_cycle.h"

namespace muster {
namespace {

size_t At(int index) { return static_cast<size_t>(index); }

// splitmix64: the same numbers on every machine, which the standard library's distributions are not.
class Random {
 public:
  int Below(int bound) {
    state_ += 0x9e3779b97f4a7c15;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    z ^= z >> 31;
    return static_cast<int>(z % static_cast<uint64_t>(bound));
  }

 private:
  uint64_t state_ = 1;
};

// Local search on one matrix of weights, whose sum along the cycle is to become small.
class LocalSearch {
 public:
  LocalSearch(int size, std::vector<double> weights) : size_(size), weights_(std::move(weights)) {
    // Or-opt moves segments up to this length; all of them where there are few.
    segment_max_ = size <= 16 ? size : 3;
  }

  double Sum(const std::vector<int>& tour) const {
    double sum = 0;
    for (size_t i = 0; i < tour.size(); ++i) sum += Weight(tour[i], tour[(i + 1) % tour.size()]);
    return sum;
  }

  // Improves `tour` until `enough` is reached or `work` moves have been looked at. Returns the sum it has then.
  double Improve(std::vector<int>* tour, double enough, int64_t work) {
    work_ = work;
    tour_ = *tour;
    double best = Descend();
    *tour = tour_;
    double current = best;
    // Perturbed again and again: three cuts, and the two parts between them change places (a double bridge).
    while (best > enough && work_ > 0 && size_ >= 5) {
      const std::vector<int> kept = tour_;
      Perturb();
      const double found = Descend();
      if (found <= current) {
        current = found;
      } else {
        tour_ = kept;
      }
      if (current < best) {
        best = current;
        *tour = tour_;
      }
    }
    return best;
  }

 private:
  static constexpr double kNoise = 1e-12;  // of rounding: no improvement

  double Weight(int from, int to) const { return weights_[At(from) * At(size_) + At(to)]; }
  double Edge(int i, int j) const { return Weight(tour_[At(i)], tour_[At(j == size_ ? 0 : j)]); }

  void Perturb() {
    const int start = random_.Below(size_);
    std::rotate(tour_.begin(), tour_.begin() + start, tour_.end());
    // Near each other, so that little is destroyed.
    const int reach = std::min(size_, 50);
    int cut[3] = {1 + random_.Below(reach - 1), 1 + random_.Below(reach - 1), 1 + random_.Below(reach - 1)};
    std::sort(cut, cut + 3);
    std::rotate(tour_.begin() + cut[0], tour_.begin() + cut[1], tour_.begin() + cut[2]);
    if (random_.Below(3) == 0) std::reverse(tour_.begin(), tour_.begin() + cut[0]);
  }

  // Sums of the edges before each place, both ways, so that what a reversal costs is known at once.
  void Accumulate() {
    forward_.resize(At(size_ + 1));
    backward_.resize(At(size_ + 1));
    for (int i = 0; i < size_; ++i) {
      forward_[At(i + 1)] = forward_[At(i)] + Edge(i, i + 1);
      const int next = i + 1 == size_ ? 0 : i + 1;
      backward_[At(i + 1)] = backward_[At(i)] + Edge(next, i);
    }
  }

  // Takes improving moves until there is none. Returns the sum.
  double Descend() {
    Accumulate();
    bool improved = true;
    while (improved && work_ > 0) {
      improved = false;
      for (int i = 0; i < size_ && work_ > 0; ++i) improved |= TwoOpt(i);
      for (int i = 0; i < size_ && work_ > 0; ++i) improved |= OrOpt(i);
    }
    return forward_[At(size_)];
  }

  bool Better(double change) const { return change < -kNoise * (1 + forward_[At(size_)]); }

  // Turns round what stands at [i + 1, j].
  bool TwoOpt(int i) {
    for (int j = i + 2; j < size_; ++j) {
      if (i == 0 && j == size_ - 1) continue;
      const double inside = (backward_[At(j)] - backward_[At(i + 1)]) - (forward_[At(j)] - forward_[At(i + 1)]);
      const double change = Edge(i, j) + Edge(i + 1, j + 1) - Edge(i, i + 1) - Edge(j, j + 1) + inside;
      if (!Better(change)) continue;
      std::reverse(tour_.begin() + i + 1, tour_.begin() + j + 1);
      Accumulate();
      return true;
    }
    work_ -= size_ - i;
    return false;
  }

  // Lets [i + 1, j] and [j + 1, k] change places, one of them being short, perhaps turned round.
  bool OrOpt(int i) {
    for (int j = i + 1; j < size_ - 1; ++j) {
      const bool first_short = j - i <= segment_max_;
      const int k_end = first_short ? size_ : std::min(size_, j + 1 + segment_max_);
      work_ -= k_end - j;
      for (int k = j + 1; k < k_end; ++k) {
        const double removed = Edge(i, i + 1) + Edge(j, j + 1) + Edge(k, k + 1);
        if (Better(Edge(i, j + 1) + Edge(k, i + 1) + Edge(j, k + 1) - removed)) {
          std::rotate(tour_.begin() + i + 1, tour_.begin() + j + 1, tour_.begin() + k + 1);
          Accumulate();
          return true;
        }
        if (first_short && j > i + 1) {  // [j + 1, k], then [j .. i + 1]
          const double inside = (backward_[At(j)] - backward_[At(i + 1)]) - (forward_[At(j)] - forward_[At(i + 1)]);
          if (Better(Edge(i, j + 1) + Edge(k, j) + Edge(i + 1, k + 1) + inside - removed)) {
            std::reverse(tour_.begin() + i + 1, tour_.begin() + j + 1);
            std::rotate(tour_.begin() + i + 1, tour_.begin() + j + 1, tour_.begin() + k + 1);
            Accumulate();
            return true;
          }
        }
      }
    }
    return false;
  }

  const int size_;
  const std::vector<double> weights_;
  int segment_max_ = 3;
  int64_t work_ = 0;
  Random random_;
  std::vector<int> tour_;
  std::vector<double> forward_, backward_;
};

std::vector<double> Weights(const EdgeCosts& costs,
                            double (*weight)(double slowness, double latency, double limit, double scale), double limit,
                            double scale) {
  std::vector<double> weights;
  weights.reserve(At(costs.size()) * At(costs.size()));
  for (int i = 0; i < costs.size(); ++i) {
    for (int j = 0; j < costs.size(); ++j) weights.push_back(weight(costs.slowness(i, j), costs.latency(i, j), limit, scale));
  }
  return weights;
}

// From each of some nodes always on to the nearest that is left; the best of these.
std::vector<int> NearestNeighbours(const EdgeCosts& costs) {
  constexpr int kStartsMax = 16;
  const int size = costs.size();
  std::vector<int> best;
  double least = std::numeric_limits<double>::infinity();
  for (int start = 0; start < std::min(size, kStartsMax); ++start) {
    std::vector<int> tour = {start};
    std::vector<bool> taken(At(size), false);
    taken[At(start)] = true;
    while (static_cast<int>(tour.size()) < size) {
      int nearest = -1;
      for (int next = 0; next < size; ++next) {
        if (taken[At(next)]) continue;
        if (nearest < 0 || std::pair(costs.slowness(tour.back(), next), costs.latency(tour.back(), next)) <
                               std::pair(costs.slowness(tour.back(), nearest), costs.latency(tour.back(), nearest))) {
          nearest = next;
        }
      }
      tour.push_back(nearest);
      taken[At(nearest)] = true;
    }
    const double slowest = CostOf(costs, tour).slowest;
    if (slowest < least) {
      least = slowest;
      best = std::move(tour);
    }
  }
  return best;
}

// No cycle's slowest edge is faster: each node has to be left and reached somehow.
double LowerBound(const EdgeCosts& costs) {
  double bound = 0;
  for (int i = 0; i < costs.size(); ++i) {
    double out = std::numeric_limits<double>::infinity(), in = out;
    for (int j = 0; j < costs.size(); ++j) {
      if (i == j) continue;
      out = std::min(out, costs.slowness(i, j));
      in = std::min(in, costs.slowness(j, i));
    }
    bound = std::max({bound, out, in});
  }
  return bound;
}

// What keeps a search among the cycles that cross no more than the one it began with: each crossing weighs more than all else together.
struct Crossings {
  const std::vector<int>* of_edge = nullptr;  // nullptr: nothing is crossed
  double SumOf(const std::vector<int>& tour, double weight) const {
    double sum = 0;
    for (size_t i = 0; of_edge != nullptr && i < tour.size(); ++i) {
      sum += weight * (*of_edge)[At(tour[i]) * tour.size() + At(tour[(i + 1) % tour.size()])];
    }
    return sum;
  }
  void AddTo(std::vector<double>* weights, double weight) const {
    for (size_t i = 0; of_edge != nullptr && i < weights->size(); ++i) (*weights)[i] += weight * (*of_edge)[i];
  }
};

// Lowers the slowest edge of `tour` as far as the search finds a way.
void LowerSlowest(const EdgeCosts& costs, const Crossings& crossings, int64_t work, std::vector<int>* tour) {
  const double bound = LowerBound(costs);
  std::vector<double> values;
  for (int i = 0; i < costs.size(); ++i) {
    for (int j = 0; j < costs.size(); ++j) {
      if (i != j && costs.slowness(i, j) >= bound) values.push_back(costs.slowness(i, j));
    }
  }
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  size_t low = 0;  // thresholds below have been tried in vain
  auto slowest = [&] {
    return static_cast<size_t>(std::lower_bound(values.begin(), values.end(), CostOf(costs, *tour).slowest) - values.begin());
  };
  for (size_t high = slowest(); low < high; high = slowest()) {
    const size_t middle = (low + high) / 2;
    // What an edge is above the threshold, so that the search sees it come nearer; one above it weighs more than none. All of
    // them together weigh less than a crossing.
    const double crossing = 4.0 * costs.size();
    std::vector<double> weights = Weights(
        costs,
        [](double slowness, double, double limit, double scale) {
          return slowness <= limit ? 0 : 1 + (slowness - limit) / scale;
        },
        values[middle], std::max(values.back() - values[middle], values.back() * 1e-9));
    crossings.AddTo(&weights, crossing);
    const double enough = crossings.SumOf(*tour, crossing) + 0.5;
    LocalSearch search(costs.size(), std::move(weights));
    std::vector<int> candidate = *tour;
    if (search.Improve(&candidate, enough, work) < enough) {
      *tour = std::move(candidate);
    } else {
      low = middle + 1;
    }
  }
}

void LowerLatency(const EdgeCosts& costs, const Crossings& crossings, int64_t work, std::vector<int>* tour) {
  const double limit = CostOf(costs, *tour).slowest * kSameSlowness;
  double total = 0;
  for (int i = 0; i < costs.size(); ++i) {
    double most = 0;
    for (int j = 0; j < costs.size(); ++j) most = std::max(most, costs.latency(i, j));
    total += most;
  }
  if (total == 0) return;
  // An edge above the limit costs more than any whole cycle below it, a crossing more than any cycle.
  std::vector<double> weights = Weights(
      costs,
      [](double slowness, double latency, double most, double scale) { return latency + (slowness <= most ? 0 : scale); },
      limit, 2 * total);
  const double crossing = 4 * total * (costs.size() + 1);
  crossings.AddTo(&weights, crossing);
  LocalSearch search(costs.size(), std::move(weights));
  search.Improve(tour, crossings.SumOf(*tour, crossing), work);
}

}  // namespace

bool EdgeCosts::IsSymmetric() const {
  for (int i = 0; i < size_; ++i) {
    for (int j = 0; j < i; ++j) {
      if (slowness(i, j) != slowness(j, i) || latency(i, j) != latency(j, i)) return false;
    }
  }
  return true;
}

CycleCost CostOf(const EdgeCosts& costs, const std::vector<int>& cycle) {
  CycleCost cost;
  if (cycle.size() < 2) return cost;
  for (size_t i = 0; i < cycle.size(); ++i) {
    const int from = cycle[i], to = cycle[(i + 1) % cycle.size()];
    cost.slowest = std::max(cost.slowest, costs.slowness(from, to));
    cost.latency += costs.latency(from, to);
  }
  return cost;
}

namespace {

// Moves to look at for a threshold; a whole look at all of them is some 13 times the square of the size.
int64_t WorkFor(int size) {
  const int64_t square = int64_t{size} * size;
  return std::max(std::min(1500 * square, int64_t{4'000'000}), 40 * square);
}

}  // namespace

std::vector<int> SearchCycle(const EdgeCosts& costs) {
  std::vector<int> tour(At(costs.size()));
  std::iota(tour.begin(), tour.end(), 0);
  if (costs.size() < 3) return tour;
  tour = NearestNeighbours(costs);
  LowerSlowest(costs, {}, WorkFor(costs.size()), &tour);
  LowerLatency(costs, {}, 4 * WorkFor(costs.size()), &tour);
  return tour;
}

std::vector<int> ImproveCycle(const EdgeCosts& costs, const std::vector<int>& crossings, std::vector<int> cycle) {
  if (costs.size() < 4) return cycle;
  LowerSlowest(costs, {&crossings}, WorkFor(costs.size()), &cycle);
  LowerLatency(costs, {&crossings}, 4 * WorkFor(costs.size()), &cycle);
  return cycle;
}

}  // namespace muster
