#include "runtime/bench/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace muster::bench {

Summary Summarise(std::vector<double> microseconds) {
  if (microseconds.empty()) return {};
  std::sort(microseconds.begin(), microseconds.end());
  const auto calls = static_cast<double>(microseconds.size());
  const auto percentile = [&](double share) {
    return microseconds[static_cast<size_t>(std::max(std::ceil(share * calls), 1.0)) - 1];
  };
  const auto over = microseconds.end() - std::upper_bound(microseconds.begin(), microseconds.end(), 2000.0);
  return {.calls = static_cast<int64_t>(microseconds.size()),
          .mean_us = std::accumulate(microseconds.begin(), microseconds.end(), 0.0) / calls,
          .p50_us = percentile(0.5),
          .p99_us = percentile(0.99),
          .max_us = microseconds.back(),
          .over_2ms = static_cast<double>(over) / calls};
}

}  // namespace muster::bench
