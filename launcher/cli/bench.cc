// muster bench: start a benchmark's worker program on several ranks.
#include <string>
#include <vector>

#include "launcher/cli/bench_arguments.h"
#include "launcher/cli/console.h"
#include "launcher/cli/program.h"
#include "launcher/cli/subcommand.h"
#include "launcher/process/exit_codes.h"

namespace muster {
namespace {

constexpr char kHelp[] =
    R"(muster bench allreduce -np N [options]: how fast collectives are here, beside the least that memory allows.

  muster bench allreduce -np 2                          8 B to 16 MiB in shared windows
  muster bench allreduce -np 4 --private -b 64K -e 1M   private buffers, chosen sizes
  muster bench allreduce --help                         all options

-np N is the number of ranks; without it one for each core that may be used.
)";

}  // namespace

int BenchCommand(const std::vector<std::string>& arguments) {
  if (!arguments.empty() && IsBenchHelp(arguments[0])) return Print(kHelp);
  const auto own_folder = OwnFolder();
  if (!own_folder.ok()) {
    Say(own_folder.status().message());
    return kExitInternal;
  }
  const auto words = BenchAsRun(arguments, *own_folder + "/muster-bench-worker");
  if (!words.ok()) return UsageError(words.status().message());
  return RunCommand(*words);
}

}  // namespace muster
