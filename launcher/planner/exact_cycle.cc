#include <algorithm>
#include <limits>

#include "launcher/planner/bottleneck_cycle.h"
#include "runtime/base/log.h"

namespace muster {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();

size_t At(int index) { return static_cast<size_t>(index); }

// Held and Karp's table: the least cost of a path from the last member through the members of `set` that ends in `end`; `join` adds an edge to a
// path's cost. Returns the best closed cycle, which begins with the last member.
template <typename Edge, typename Join>
std::vector<int> BestCycle(int size, Edge edge, Join join) {
  const int others = size - 1;  // members 0 .. others - 1; paths begin at member `others`
  const size_t sets = size_t{1} << others;
  std::vector<double> best(sets * At(others), kInfinite);
  std::vector<int8_t> before(sets * At(others), -1);
  for (int end = 0; end < others; ++end) best[(size_t{1} << end) * At(others) + At(end)] = edge(others, end);
  for (size_t set = 1; set < sets; ++set) {
    for (int end = 0; end < others; ++end) {
      const double cost = best[set * At(others) + At(end)];
      if (cost == kInfinite) continue;
      for (int next = 0; next < others; ++next) {
        if ((set >> next) & 1) continue;
        const size_t place = (set | size_t{1} << next) * At(others) + At(next);
        const double longer = join(cost, edge(end, next));
        if (longer < best[place]) {
          best[place] = longer;
          before[place] = static_cast<int8_t>(end);
        }
      }
    }
  }
  int end = 0;
  double least = kInfinite;
  for (int one = 0; one < others; ++one) {
    const double closed = join(best[(sets - 1) * At(others) + At(one)], edge(one, others));
    if (closed < least) {
      least = closed;
      end = one;
    }
  }
  std::vector<int> cycle;
  for (size_t set = sets - 1; end >= 0 && set != 0;) {
    cycle.push_back(end);
    const int previous = before[set * At(others) + At(end)];
    set &= ~(size_t{1} << end);
    end = previous;
  }
  cycle.push_back(others);
  std::reverse(cycle.begin(), cycle.end());
  return cycle;
}

}  // namespace

std::vector<int> ExactCycle(const EdgeCosts& costs) {
  MUSTER_CHECK(costs.size() <= kExactCycleMax, "too many for an exact cycle");
  if (costs.size() == 0) return {};
  if (costs.size() == 1) return {0};
  const std::vector<int> fastest = BestCycle(
      costs.size(), [&costs](int from, int to) { return costs.slowness(from, to); },
      [](double path, double edge) { return std::max(path, edge); });
  const double limit = CostOf(costs, fastest).slowest * kSameSlowness;
  return BestCycle(
      costs.size(), [&](int from, int to) { return costs.slowness(from, to) <= limit ? costs.latency(from, to) : kInfinite; },
      [](double path, double edge) { return path + edge; });
}

}  // namespace muster
