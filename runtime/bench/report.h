// The benchmark's table and its JSON.
#ifndef MUSTER_RUNTIME_BENCH_REPORT_H_
#define MUSTER_RUNTIME_BENCH_REPORT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/bench/options.h"
#include "runtime/bench/placement.h"
#include "runtime/bench/statistics.h"

namespace muster::bench {

// One line of the table.
struct Row {
  int64_t bytes = 0;
  int64_t count = 0;
  Summary time;
  std::optional<Summary> floor;
  std::optional<int64_t> wrong;  // elements over all calls and ranks; nullopt: not compared

  double algbw_gbps() const;                // 10^9 bytes a second of the vector, by the median
  double busbw_gbps(int world_size) const;  // what each rank's link would carry: nccl-tests' definition
  std::optional<double> ratio() const;      // floor / time, medians
};

// The lines before the first row, and one row; each ends in a newline.
std::string TableHeader(const Options& options, const Setting& setting);
std::string TableRow(const Options& options, const Setting& setting, const Row& row);

// Everything that was measured, one object.
std::string Json(const Options& options, const Setting& setting, const std::vector<Row>& rows);

}  // namespace muster::bench

#endif  // MUSTER_RUNTIME_BENCH_REPORT_H_
