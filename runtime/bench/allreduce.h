// Times all-reduce through the public API, beside the floor.
#ifndef MUSTER_RUNTIME_BENCH_ALLREDUCE_H_
#define MUSTER_RUNTIME_BENCH_ALLREDUCE_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "muster/communicator.h"
#include "runtime/bench/options.h"
#include "runtime/bench/report.h"

namespace muster::bench {

// Collective; every rank gives the same options. Each row goes to `print` on every rank as soon as it is there. When there is
// no floor to be had, `warn` gets the reason and rows are without it. Errors: those of the communicator, each with the size at
// which it happened.
absl::StatusOr<std::vector<Row>> MeasureAllReduce(Communicator& communicator, const Setting& setting, const Options& options,
                                                  const std::function<void(const Row&)>& print,
                                                  const std::function<void(const std::string&)>& warn);

}  // namespace muster::bench

#endif  // MUSTER_RUNTIME_BENCH_ALLREDUCE_H_
