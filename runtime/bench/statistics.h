// What many timed calls come to.
#ifndef MUSTER_RUNTIME_BENCH_STATISTICS_H_
#define MUSTER_RUNTIME_BENCH_STATISTICS_H_

#include <cstdint>
#include <vector>

namespace muster::bench {

struct Summary {
  int64_t calls = 0;
  double mean_us = 0;
  double p50_us = 0;
  double p99_us = 0;
  double max_us = 0;
  double over_2ms = 0;  // share of calls, 0 to 1: those that waited for a scheduler's whole slice
};

// `microseconds`: one entry a call, in any order. All zero when there is none. Percentiles are nearest-rank.
Summary Summarise(std::vector<double> microseconds);

}  // namespace muster::bench

#endif  // MUSTER_RUNTIME_BENCH_STATISTICS_H_
