// The order of few things (nodes, or groups of nodes) in a ring when each pair's bandwidth and latency are known.
//
// A ring all-reduce of S bytes over N nodes takes 2(N-1) steps, each as long as its slowest edge: 2(N-1)(latency + S/N / bandwidth).
// So the objective is the bottleneck first: the smallest slowness of the slowest edge; and among the cycles whose slowest edge is
// at most kSameSlowness times that, for measurements are no more precise, the one of least latency in all.
#ifndef MUSTER_LAUNCHER_PLANNER_BOTTLENECK_CYCLE_H_
#define MUSTER_LAUNCHER_PLANNER_BOTTLENECK_CYCLE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace muster {

inline constexpr double kSameSlowness = 1.01;

// Costs of the edges of a complete directed graph. All are finite and not negative.
class EdgeCosts {
 public:
  explicit EdgeCosts(int size)
      : size_(size), slowness_(static_cast<size_t>(size) * static_cast<size_t>(size)), latency_(slowness_.size()) {}
  int size() const { return size_; }
  double slowness(int from, int to) const { return slowness_[At(from, to)]; }  // seconds a byte
  double latency(int from, int to) const { return latency_[At(from, to)]; }
  void Set(int from, int to, double slowness, double latency) {
    slowness_[At(from, to)] = slowness;
    latency_[At(from, to)] = latency;
  }
  bool IsSymmetric() const;

 private:
  size_t At(int from, int to) const { return static_cast<size_t>(from) * static_cast<size_t>(size_) + static_cast<size_t>(to); }
  int size_;
  std::vector<double> slowness_;
  std::vector<double> latency_;
};

struct CycleCost {
  double slowest = 0;  // slowness of the slowest edge
  double latency = 0;  // sum over all edges
};
CycleCost CostOf(const EdgeCosts& costs, const std::vector<int>& cycle);

// A cycle through 0 .. size - 1 by search: threshold by threshold on the slowest edge, then on latency, by 2-opt and Or-opt with
// reproducible perturbations. The same costs give the same cycle. The number of moves that are looked at is bounded and grows with
// the square of the size: some 5 ms for 12, half a second for 64, 2 s for 512.
// Source: threshold method of Garfinkel and Gilbert, J. ACM 25 (1978) 435-448; iterated local search of Lourenco, Martin and
// Stuetzle, Handbook of Metaheuristics (2003), ch. 11.
std::vector<int> SearchCycle(const EdgeCosts& costs);

// `cycle` made better by the same search, where only cycles with as few crossings as it has are let in: `crossings` says of each
// edge, from i to j at [i * size + j], how many it stands for.
std::vector<int> ImproveCycle(const EdgeCosts& costs, const std::vector<int>& crossings, std::vector<int> cycle);

// The best cycle of all, for sizes up to kExactCycleMax: the oracle of the search, and what small clusters are planned with.
// Source: Held and Karp, J. SIAM 10 (1962) 196-210, with max in place of + for the first objective.
inline constexpr int kExactCycleMax = 12;
std::vector<int> ExactCycle(const EdgeCosts& costs);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PLANNER_BOTTLENECK_CYCLE_H_
