// `muster bench` as a `muster run`.
#ifndef MUSTER_LAUNCHER_CLI_BENCH_ARGUMENTS_H_
#define MUSTER_LAUNCHER_CLI_BENCH_ARGUMENTS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace muster {

// Turns the words after `muster bench` into those after `muster run`: -np N goes to the launcher, all others to `worker`, the
// benchmark's program.
// Errors: InvalidArgument (no benchmark, an unknown one, -np without a number after it).
absl::StatusOr<std::vector<std::string>> BenchAsRun(const std::vector<std::string>& arguments, const std::string& worker);

bool IsBenchHelp(const std::string& word);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_BENCH_ARGUMENTS_H_
