#include "launcher/cli/bench_arguments.h"

#include "absl/strings/str_cat.h"

namespace muster {

bool IsBenchHelp(const std::string& word) { return word == "-h" || word == "--help" || word == "-help"; }

absl::StatusOr<std::vector<std::string>> BenchAsRun(const std::vector<std::string>& arguments, const std::string& worker) {
  if (arguments.empty()) return absl::InvalidArgumentError("name the benchmark: muster bench allreduce -np 2");
  if (arguments[0] != "allreduce") {
    return absl::InvalidArgumentError(absl::StrCat("no benchmark ", arguments[0], "; there is: muster bench allreduce -np 2"));
  }
  // Ranks that compute nothing but sums need no threads of OpenMP; setting it here keeps `muster run` from saying so.
  std::vector<std::string> launch = {"-x", "OMP_NUM_THREADS=1"};
  std::vector<std::string> benchmark = {"--", worker, "allreduce"};
  for (size_t i = 1; i < arguments.size(); ++i) {
    if (IsBenchHelp(arguments[i])) return std::vector<std::string>{"-np", "1", "--", worker, "allreduce", "--help"};
    if (arguments[i] != "-np" && arguments[i] != "--np") {
      benchmark.push_back(arguments[i]);
      continue;
    }
    if (++i == arguments.size()) return absl::InvalidArgumentError("-np needs the number of ranks after it");
    launch.insert(launch.end(), {"-np", arguments[i]});
  }
  launch.insert(launch.end(), benchmark.begin(), benchmark.end());
  return launch;
}

}  // namespace muster
